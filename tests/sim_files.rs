//! Device files of the simulated device: the presets and the page that describes them.
#![allow(clippy::float_cmp, reason = "what a file states is read exactly")]

mod random;
mod refusals;

use std::collections::BTreeSet;
use std::path::Path;

use layerjoule::sim::{DeviceParameters, Domain, PRESETS, SensorKind, SensorParameters};

fn preset_text(name: &str) -> String {
    std::fs::read_to_string(preset_path(name)).unwrap()
}

fn preset_path(name: &str) -> String {
    format!("{}/profiles/devices/sim-{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

fn preset(name: &str) -> DeviceParameters {
    DeviceParameters::preset(name).unwrap()
}

fn sensor<'a>(device: &'a DeviceParameters, id: &str) -> &'a SensorParameters {
    device.sensor.iter().find(|sensor| sensor.id == id).unwrap()
}

#[test]
fn the_presets_are_the_files_of_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/devices");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names: BTreeSet<String> = files
        .filter_map(|file| Some(file.to_str()?.strip_prefix("sim-")?.strip_suffix(".toml")?.to_string()))
        .collect();
    assert_eq!(names, PRESETS.iter().map(|name| name.to_string()).collect());
    for name in PRESETS {
        let parsed = DeviceParameters::parse("x", &preset_text(name)).unwrap();
        assert_eq!(parsed, preset(name), "{name}");
        assert_eq!(DeviceParameters::open(name).unwrap(), parsed, "{name}");
        assert_eq!(DeviceParameters::open(&preset_path(name)).unwrap(), parsed, "{name}");
    }
    assert_eq!(DeviceParameters::preset("sim:h200"), None);
}

/// Names that the head of a preset explains: `#   NAME    …`.
fn explained(text: &str) -> BTreeSet<&str> {
    text.lines()
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("#   "))
        .filter(|rest| !rest.starts_with(' '))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect()
}

#[test]
fn every_value_of_a_preset_says_where_it_is_from() {
    for name in PRESETS {
        let text = preset_text(name);
        let works = explained(&text);
        let mut cited = BTreeSet::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains(" = ")) {
            let place = format!("sim-{name}.toml:{}: {line}", number + 1);
            if line.starts_with('#') {
                continue;
            }
            let origin = line.split_once(" # ").unwrap_or_else(|| panic!("no origin: {place}")).1;
            match origin.split_once(": ") {
                Some(("source", rest)) => {
                    let work = rest.split([',', ' ', ';']).next().unwrap();
                    assert!(works.contains(work), "{work:?} is not explained: {place}");
                    cited.insert(work.to_string());
                }
                Some(("chosen", why)) => {
                    assert!(why.split_whitespace().count() >= 2, "no reason: {place}");
                    let mentioned = why.split(|c: char| !c.is_alphanumeric() && c != '_');
                    cited.extend(mentioned.filter(|word| works.contains(word)).map(str::to_string));
                }
                _ => panic!("neither source nor chosen: {place}"),
            }
        }
        let idle: Vec<_> = works.iter().filter(|work| !cited.contains(**work)).collect();
        assert!(idle.is_empty(), "sim-{name}.toml explains {idle:?} and uses them nowhere");
    }
}

#[test]
fn sensors_look_when_and_as_long_as_those_of_their_architecture() {
    // Update period and window in milliseconds: SC24, 10.1109/SC41406.2024.00028, by architecture.
    for (name, period, window, counter_window) in [
        ("v100", 20.0, 10.0, Some(10.0)),
        ("a100", 100.0, 25.0, Some(25.0)),
        ("h200", 100.0, 25.0, Some(25.0)),
        ("rtx3090", 100.0, 100.0, None),
    ] {
        let device = preset(name);
        let ms = |seconds: f64| (seconds * 1e6).round() / 1e3;
        let (counter, instant) = (&device.sensor[0], sensor(&device, "sim-instant"));
        assert_eq!((counter.id.as_str(), counter.kind), ("sim", SensorKind::Energy), "{name}");
        assert_eq!((ms(counter.update_period_s), ms(instant.update_period_s)), (period, period), "{name}");
        assert_eq!(counter.window_s.map(ms), counter_window, "{name}");
        assert_eq!(instant.window_s.map(ms), Some(window), "{name}");
        // The same table: no average on Volta and GA100, one of a second on the others, half a second late.
        let average = device.sensor.iter().find(|sensor| sensor.id == "sim-average");
        assert_eq!(average.is_some(), ["h200", "rtx3090"].contains(&name), "{name}");
        if let Some(average) = average {
            assert_eq!((average.window_s, average.delay_s), (Some(1.0), [0.5, 0.5]), "{name}");
        }
    }
}

#[test]
fn rapl_counts_in_powers_of_two_and_wraps_after_32_bits() {
    let device = preset("rapl-server");
    let domains: Vec<_> = device.sensor.iter().map(|s| (s.id.as_str(), s.kind, s.domain)).collect();
    let energy = SensorKind::Energy;
    assert_eq!(domains, [("sim", energy, Domain::Processor), ("sim:dram", energy, Domain::Memory)]);
    for (sensor, units) in device.sensor.iter().zip([16384.0, 65536.0]) {
        assert_eq!(sensor.step * units, 1.0, "{}", sensor.id);
        assert_eq!(sensor.wraps_at_j, Some(4_294_967_296.0 / units), "{}", sensor.id);
        assert_eq!(sensor.window_s, None);
    }
}

#[test]
fn boards_queue_work_and_processors_do_not_and_files_that_do_not_say_are_of_devices_that_do_not() {
    for name in PRESETS {
        assert_eq!(preset(name).speed.queues, *name != "rapl-server", "{name}");
        let text = preset(name).to_toml();
        let silent: String =
            text.lines().filter(|line| !line.starts_with("queues")).map(|l| format!("{l}\n")).collect();
        assert!(silent.len() < text.len());
        assert!(!DeviceParameters::parse("x", &silent).unwrap().speed.queues);
    }
}

#[test]
fn the_ideal_device_has_no_artefact() {
    let device = preset("ideal");
    let (speed, power, clock) = (&device.speed, &device.power, &device.clock);
    assert_eq!([speed.gap_s, speed.sync_s, speed.time_noise, device.thermal.leakage_w_per_k], [0.0; 4]);
    assert_eq!(speed.cache_bytes, 1.0);
    assert_eq!(power.idle_w, power.active_idle_w);
    assert_eq!([clock.boost_mhz, clock.lowest_mhz], [clock.reference_mhz; 2]);
    for s in &device.sensor {
        let wrong = [s.jitter_s, s.noise, s.noise_correlation, s.offset_w, s.missed, s.slow_queries];
        assert_eq!((wrong, s.delay_s, s.query_s, s.gain), ([0.0; 6], [0.0; 2], [0.0; 2], 1.0), "{}", s.id);
        assert_eq!((s.wraps_at_j, s.fault, s.update_period_s), (None, None, 0.001), "{}", s.id);
    }
    assert_eq!(device.sensor[0].window_s, None);
    assert!(power.limit_w > 10.0 * full_rate_w(&device, 1.0));
}

#[test]
fn gain_is_all_that_differs_between_h200_and_h200_gain5() {
    let mut gained = preset("h200-gain5");
    for sensor in &mut gained.sensor {
        assert_eq!(sensor.gain, 1.05, "{}", sensor.id);
        sensor.gain = 1.0;
    }
    assert_eq!(gained, preset("h200"));
    for name in PRESETS.iter().filter(|name| **name != "h200-gain5") {
        let exact = preset(name).sensor.iter().all(|s| s.gain == 1.0 && s.offset_w == 0.0);
        assert!(exact, "{name} could not be compared with its truth");
    }
}

/// Watts of conv at the full rate with some share of the memory's bandwidth, at reference clock and temperature.
fn full_rate_w(device: &DeviceParameters, share: f64) -> f64 {
    let (speed, energy) = (&device.speed, &device.energy);
    device.power.active_idle_w
        + energy.busy_w
        + speed.peak_flops_per_s * speed.efficiency * energy.flop_j
        + share * speed.memory_bytes_per_s * energy.memory_byte_j
}

#[test]
fn large_convolutions_meet_the_limits_that_they_meet_on_real_boards() {
    for name in ["v100", "a100", "rtx3090"] {
        let device = preset(name);
        let (drawn, limit) = (full_rate_w(&device, 0.1), device.power.limit_w);
        assert!(drawn > limit && drawn < 1.3 * limit, "{name}: {drawn:.0} W with a limit of {limit} W");
    }
    for name in ["h200", "rapl-server"] {
        let device = preset(name);
        let (drawn, limit) = (full_rate_w(&device, 0.1), device.power.limit_w);
        assert!(drawn > 0.85 * limit && drawn < 1.05 * limit, "{name}: {drawn:.0} of {limit} W");
    }
    // Boards at their limit are this warm, and leakage heats them by less than a third more.
    for name in ["v100", "a100", "h200", "rtx3090", "rapl-server"] {
        let device = preset(name);
        let celsius = device.thermal.ambient_c + device.thermal.resistance_k_per_w * device.power.limit_w;
        assert!((60.0..=75.0).contains(&celsius), "{name} is at {celsius:.0} degrees at its limit");
        assert!(device.thermal.resistance_k_per_w * device.thermal.leakage_w_per_k < 0.25, "{name}");
    }
}

#[test]
fn the_page_describes_every_key() {
    let page = include_str!("../docs/simulated-devices.md");
    let all = format!(
        "{}wraps_at_j = 1.0\nfault = {{ kind = \"read_rate\", per_query_j = 1.0, forgets_within_s = 1.0 }}\nat_s = 1",
        preset("a100").to_toml()
    );
    let keys = all.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    for key in keys.chain(["per_query_j", "forgets_within_s", "for_s"]) {
        assert!(
            page.contains(&format!("| `{key}` |")),
            "docs/simulated-devices.md says nothing about `{key}`"
        );
    }
}

#[test]
fn the_page_has_the_presets_numbers() {
    let page = include_str!("../docs/simulated-devices.md");
    for name in PRESETS {
        let row = page.lines().find(|line| line.starts_with(&format!("| `sim:{name}` |"))).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let device = preset(name);
        let numbers = [
            device.speed.peak_flops_per_s / 1e12,
            device.speed.memory_bytes_per_s / 1e9,
            device.power.active_idle_w,
            device.power.limit_w,
            device.sensor[0].update_period_s * 1e3,
        ];
        for (cell, number) in cells[2..].iter().zip(numbers) {
            let shown: f64 = cell.replace(' ', "").parse().unwrap();
            assert!((shown - number).abs() <= 1e-9 * number, "{name}: {cell} for {number}");
        }
        let looks =
            device.sensor[0].window_s.map_or("all the time".to_string(), |w| format!("{} ms", w * 1e3));
        assert_eq!(cells[7], looks, "{name}");
        let ids: Vec<String> = device.sensor.iter().map(|s| format!("`{}`", s.id)).collect();
        assert_eq!(cells[8], ids.join(", "), "{name}");
    }
}

#[test]
fn the_pages_own_device_is_one() {
    let page = include_str!("../docs/simulated-devices.md");
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    DeviceParameters::parse("docs/simulated-devices.md", example).unwrap();
}
