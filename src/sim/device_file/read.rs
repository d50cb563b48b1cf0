//! What the keys of a device file are, which numbers they take, and how these must fit together.

use std::ops::{Bound, RangeInclusive};

use super::section::Section;
use crate::sim::parameters::{
    Clocking, DeviceParameters, Domain, Fault, Power, SensorKind, SensorParameters, Speed, Tail, Thermal,
    WorkEnergy,
};

const SHARE: RangeInclusive<f64> = 0.0..=1.0;
// Bounds far beyond any device, within which every simulation ends and no number overflows.
/// Operations or bytes per second. Below one a microsecond nothing ends within a person's time.
const RATE: RangeInclusive<f64> = 1e6..=1e18;
/// Joules of one operation or byte.
const JOULES: RangeInclusive<f64> = 0.0..=1e-3;
const WATTS: RangeInclusive<f64> = 0.0..=1e5;
/// Seconds of a kernel's overhead and of gaps.
const OVERHEAD: RangeInclusive<f64> = 0.0..=1.0;
/// No kernel is shorter, in seconds: a pass of a network is a loop over them.
const SHORTEST_KERNEL: RangeInclusive<f64> = 1e-7..=1.0;
/// Between updates of a sensor: from ten times faster than any known one to slower than a person waits for.
const PERIOD: RangeInclusive<f64> = 1e-5..=2.0;
/// Windows and delays; the past is remembered as long.
const PAST: f64 = 5.0;
/// Time of a query.
const QUERY: RangeInclusive<f64> = 0.0..=1.0;
/// Time constant of the power limiter in seconds. The truth waits for it pass by pass, so it bounds how long that takes.
const LIMITER: RangeInclusive<f64> = 1e-3..=1.0;
/// Other time constants in seconds, up to those of the heat, which nobody waits for.
const CONSTANT: RangeInclusive<f64> = 1e-3..=3600.0;
const MEGAHERTZ: RangeInclusive<f64> = 1.0..=1e5;
const CELSIUS: RangeInclusive<f64> = -100.0..=200.0;
/// Largest product of thermal resistance and leakage. Heating by one watt raises the leakage by this many, which
/// heats again: the sum of the series is `1 / (1 - product)`, and at one there is none.
const MOST_FEEDBACK: f64 = 0.9;

/// The device of a file.
pub(super) fn device(file: &mut Section<'_>) -> DeviceParameters {
    let name = file.name("name");
    let (speed, energy) = (file.section("speed", speed), file.section("energy", energy));
    let power = file.section("power", power);
    DeviceParameters {
        name,
        speed,
        energy,
        thermal: file.section("thermal", |table| thermal(table, &power)),
        power,
        clock: file.section("clock", clock),
        sensor: file.list("sensor", sensor),
    }
}

fn speed(table: &mut Section<'_>) -> Speed {
    Speed {
        peak_flops_per_s: table.number("peak_flops_per_s", RATE),
        efficiency: table.number("efficiency", 0.01..=1.0),
        efficiency_spread: table.number("efficiency_spread", 0.0..=0.5),
        half_full_outputs: table.number("half_full_outputs", 0.0..=1e12),
        memory_bytes_per_s: table.number("memory_bytes_per_s", RATE),
        cache_bytes: table.number("cache_bytes", 1.0..=1e15),
        cache_bytes_per_s: table.number("cache_bytes_per_s", RATE),
        kernel_s: table.number("kernel_s", SHORTEST_KERNEL),
        gap_s: table.number("gap_s", OVERHEAD),
        sync_s: table.number("sync_s", OVERHEAD),
        time_noise: table.number("time_noise", 0.0..=0.5),
        // Files of versions that knew no queue describe devices without one.
        queues: table.optional_flag("queues").unwrap_or(false),
    }
}

fn energy(table: &mut Section<'_>) -> WorkEnergy {
    WorkEnergy {
        flop_j: table.number("flop_j", JOULES),
        elementwise_flop_j: table.number("elementwise_flop_j", JOULES),
        cache_byte_j: table.number("cache_byte_j", JOULES),
        memory_byte_j: table.number("memory_byte_j", JOULES),
        busy_w: table.number("busy_w", WATTS),
    }
}

fn power(table: &mut Section<'_>) -> Power {
    let power = Power {
        idle_w: table.number("idle_w", WATTS),
        active_idle_w: table.number("active_idle_w", WATTS),
        memory_idle_w: table.number("memory_idle_w", WATTS),
        hold_s: table.number("hold_s", 0.0..=*CONSTANT.end()),
        tail: table
            .word("tail", [("step", Tail::Step), ("exponential", Tail::Exponential)])
            .unwrap_or(Tail::Step),
        tail_s: table.number("tail_s", 0.0..=*CONSTANT.end()),
        limit_w: table.number("limit_w", (Bound::Excluded(0.0), Bound::Included(*WATTS.end()))),
    };
    let (idle, active, limit) = (power.idle_w, power.active_idle_w, power.limit_w);
    table.require("idle_w", idle <= active, &format!("at most active_idle_w, {active}"));
    table.require("memory_idle_w", power.memory_idle_w <= idle, &format!("at most idle_w, {idle}"));
    table.require("active_idle_w", active <= limit, &format!("at most limit_w, {limit}"));
    let falls = power.tail == Tail::Step || power.tail_s > 0.0;
    table.require("tail_s", falls, "a number above 0, as the tail is exponential");
    power
}

fn thermal(table: &mut Section<'_>, power: &Power) -> Thermal {
    let thermal = Thermal {
        ambient_c: table.number("ambient_c", CELSIUS),
        resistance_k_per_w: table.number("resistance_k_per_w", 0.0..=100.0),
        time_constant_s: table.number("time_constant_s", CONSTANT),
        leakage_w_per_k: table.number("leakage_w_per_k", 0.0..=1e4),
        reference_c: table.number("reference_c", CELSIUS),
    };
    let stable = thermal.resistance_k_per_w * thermal.leakage_w_per_k < MOST_FEEDBACK;
    let expected = format!(
        "below {MOST_FEEDBACK} when multiplied by resistance_k_per_w, {}, or the device heats itself without end",
        thermal.resistance_k_per_w
    );
    table.require("leakage_w_per_k", stable, &expected);
    // A cold device leaks less, but no power is negative.
    let rest_c = thermal.ambient_c + thermal.resistance_k_per_w * power.idle_w;
    let warmest = rest_c + (power.active_idle_w - power.memory_idle_w) / thermal.leakage_w_per_k;
    let expected = format!(
        "at most {warmest:.1}, or leakage leaves less than memory_idle_w of active_idle_w at the {rest_c:.1} degrees of rest"
    );
    let positive = thermal.leakage_w_per_k <= 0.0 || thermal.reference_c <= warmest;
    // Where another number is wrong, this cannot be said.
    table.require("reference_c", positive || warmest.is_nan(), &expected);
    thermal
}

fn clock(table: &mut Section<'_>) -> Clocking {
    let clock = Clocking {
        reference_mhz: table.number("reference_mhz", MEGAHERTZ),
        boost_mhz: table.number("boost_mhz", MEGAHERTZ),
        boost_decay_s: table.number("boost_decay_s", CONSTANT),
        lowest_mhz: table.number("lowest_mhz", MEGAHERTZ),
        voltage_slope: table.number("voltage_slope", SHARE),
        limiter_s: table.number("limiter_s", LIMITER),
    };
    let (reference, boost) = (clock.reference_mhz, clock.boost_mhz);
    table.require(
        "lowest_mhz",
        clock.lowest_mhz <= reference,
        &format!("at most reference_mhz, {reference}"),
    );
    // Boost may lie below the reference: a device whose clock rises under load.
    table.require("lowest_mhz", clock.lowest_mhz <= boost, &format!("at most boost_mhz, {boost}"));
    clock
}

fn sensor(table: &mut Section<'_>, before: &[SensorParameters]) -> SensorParameters {
    let sensor = SensorParameters {
        id: table.name("id"),
        kind: table
            .word("kind", [("energy", SensorKind::Energy), ("power", SensorKind::Power)])
            .unwrap_or(SensorKind::Energy),
        domain: table
            .word(
                "domain",
                [("board", Domain::Board), ("processor", Domain::Processor), ("memory", Domain::Memory)],
            )
            .unwrap_or(Domain::Board),
        update_period_s: table.number("update_period_s", PERIOD),
        window_s: table.optional_number("window_s", (Bound::Excluded(0.0), Bound::Included(PAST))),
        jitter_s: table.number("jitter_s", 0.0..),
        delay_s: table.pair("delay_s", 0.0..=PAST),
        noise: table.number("noise", SHARE),
        noise_correlation: table.number("noise_correlation", 0.0..1.0),
        gain: table.number("gain", 0.01..=100.0),
        offset_w: table.number("offset_w", -1e5..=1e5),
        step: table.number("step", 1e-12..=1e6),
        missed: table.number("missed", 0.0..=0.5),
        query_s: table.pair("query_s", QUERY),
        slow_queries: table.number("slow_queries", SHARE),
        slow_query_s: table.number("slow_query_s", QUERY),
        wraps_at_j: table.optional_number("wraps_at_j", 1e-9..=1e15),
        fault: table.optional_section("fault", fault),
    };
    check_identity(table, &sensor, before);
    match sensor.kind {
        SensorKind::Energy => check_counter(table, &sensor),
        SensorKind::Power => check_power(table, &sensor),
    }
    check_jitter(table, &sensor);
    sensor
}

/// Readings of simulated devices are never taken for real ones, nor one for another.
fn check_identity(table: &mut Section<'_>, sensor: &SensorParameters, before: &[SensorParameters]) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let suffixed = |rest: &str| {
        rest.strip_prefix(['-', ':']).is_some_and(|name| !name.is_empty() && name.chars().all(allowed))
    };
    let marked = sensor.id.strip_prefix("sim").is_some_and(|rest| rest.is_empty() || suffixed(rest));
    let expected = "\"sim\", or \"sim-\" or \"sim:\" followed by small letters, digits and hyphens";
    table.require("id", marked, expected);
    let new = before.iter().all(|other| other.id != sensor.id);
    table.require("id", new, "an id that no sensor before it has");
    let whole = !before.is_empty() || !sensor.id.contains(':');
    table.require("id", whole, "no colon, as the first sensor is the primary meter and no part of another");
    let primary = !before.is_empty() || sensor.kind == SensorKind::Energy;
    table.require("kind", primary, "\"energy\", as the first sensor is the primary meter");
}

fn check_counter(table: &mut Section<'_>, sensor: &SensorParameters) {
    let period = sensor.update_period_s;
    let within = sensor.window_s.is_none_or(|window| window <= period);
    let expected =
        format!("at most the update period {period} of an energy counter that looks part of the time");
    table.require("window_s", within, &expected);
    let whole = |at: f64| at > sensor.step && (at / sensor.step - (at / sensor.step).round()).abs() < 1e-6;
    let expected = format!("a multiple of the step, {}", sensor.step);
    table.require("wraps_at_j", sensor.wraps_at_j.is_none_or(whole), &expected);
}

fn check_power(table: &mut Section<'_>, sensor: &SensorParameters) {
    if sensor.window_s.is_none() {
        table.missing("window_s", "the length of the average that a reading of power is");
    }
    table.require("wraps_at_j", sensor.wraps_at_j.is_none(), "nothing, as readings of power do not wrap");
    let of_any = matches!(sensor.fault, None | Some(Fault::Stuck { .. } | Fault::Silent { .. }));
    let expected = "a fault of the kind \"stuck\" or \"silent\", as the others are those of counters";
    table.require("fault", of_any, expected);
}

/// Updates scatter around a regular grid, and two standard deviations of one must not reach the next.
fn check_jitter(table: &mut Section<'_>, sensor: &SensorParameters) {
    let most = sensor.update_period_s / 4.0;
    let expected =
        format!("at most {most}, a quarter of the update period, as updates would overtake each other");
    table.require("jitter_s", sensor.jitter_s <= most, &expected);
}

fn fault(table: &mut Section<'_>) -> Fault {
    #[derive(Clone, Copy)]
    enum Kind {
        Stuck,
        Reset,
        ReadRate,
        Silent,
    }
    let kinds = [
        ("stuck", Kind::Stuck),
        ("reset", Kind::Reset),
        ("read_rate", Kind::ReadRate),
        ("silent", Kind::Silent),
    ];
    match table.word("kind", kinds) {
        Some(Kind::Stuck) => Fault::Stuck { at_s: table.number("at_s", 0.0..=1e6) },
        Some(Kind::Reset) => Fault::Reset { at_s: table.number("at_s", 0.0..=1e6) },
        Some(Kind::ReadRate) => Fault::ReadRate {
            per_query_j: table.number("per_query_j", 0.0..=1e5),
            forgets_within_s: table.number("forgets_within_s", QUERY),
        },
        Some(Kind::Silent) => {
            Fault::Silent { at_s: table.number("at_s", 0.0..=1e6), for_s: table.number("for_s", 0.0..=1e6) }
        }
        None => {
            // Which keys it has is not known without the kind.
            let _ = ["at_s", "for_s", "per_query_j", "forgets_within_s"].map(|key| table.has(key));
            Fault::Stuck { at_s: f64::NAN }
        }
    }
}
