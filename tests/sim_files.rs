//! Device files of the simulated device: the presets, what is refused and how it is said, boards drawn at random.

use std::collections::BTreeSet;
use std::path::Path;

use layerjoule::sim::{DeviceParameters, Domain, Fault, PRESETS, SensorKind, SensorParameters};
use proptest::prelude::*;

fn preset_text(name: &str) -> String {
    std::fs::read_to_string(preset_path(name)).unwrap()
}

fn preset_path(name: &str) -> String {
    format!("{}/profiles/devices/sim-{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

fn preset(name: &str) -> DeviceParameters {
    DeviceParameters::preset(name).unwrap()
}

fn refusal(text: &str) -> String {
    DeviceParameters::parse("x.toml", text).unwrap_err().to_string()
}

fn sensor<'a>(device: &'a DeviceParameters, id: &str) -> &'a SensorParameters {
    device.sensor.iter().find(|sensor| sensor.id == id).unwrap()
}

// ------------------------------------------------------------------------------------------------ presets

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
    // The power of the four boards at their limit is known: at these temperatures.
    for name in ["v100", "a100", "h200", "rtx3090", "rapl-server"] {
        let device = preset(name);
        let celsius = device.thermal.ambient_c + device.thermal.resistance_k_per_w * device.power.limit_w;
        assert!((60.0..=75.0).contains(&celsius), "{name} is at {celsius:.0} degrees at its limit");
        assert!(device.thermal.resistance_k_per_w * device.thermal.leakage_w_per_k < 0.25, "{name}");
    }
}

// ------------------------------------------------------------------------------------------------ refusals

/// The text of `sim:a100` with the first line of a key, or a header, replaced.
fn a100_with(line: &str, by: &str) -> String {
    edited(&preset_text("a100"), line, by)
}

/// What stands before the equals sign; the line, where there is none.
fn key_of(line: &str) -> &str {
    line.split(" = ").next().unwrap()
}

fn edited(text: &str, line: &str, by: &str) -> String {
    let old = text.lines().find(|candidate| key_of(candidate) == line).unwrap();
    text.replacen(old, by, 1)
}

/// The line, counted from 1, of the first that begins so.
fn line_of(text: &str, line: &str) -> usize {
    text.lines().position(|candidate| candidate.starts_with(line)).unwrap() + 1
}

#[test]
fn impossible_values_are_named_with_file_line_key_expected_and_found() {
    for (key, value, message) in [
        ("peak_flops_per_s", "0", "speed.peak_flops_per_s: expected a number of at least 1000000, found 0"),
        ("cache_bytes", "0.0", "speed.cache_bytes: expected a number of at least 1, found 0.0"),
        (
            "memory_bytes_per_s",
            "-1e9",
            "speed.memory_bytes_per_s: expected a number of at least 1000000, found -1e9",
        ),
        ("efficiency", "1.5", "speed.efficiency: expected a number above 0 to 1, found 1.5"),
        ("gap_s", "-1e-6", "speed.gap_s: expected a number of at least 0, found -1e-6"),
        ("flop_j", "nan", "energy.flop_j: expected a number of at least 0, found nan"),
        ("busy_w", "inf", "energy.busy_w: expected a number of at least 0, found inf"),
        ("busy_w", "1e999", "energy.busy_w: expected a number of at least 0, found 1e999"),
        ("busy_w", "\"much\"", "energy.busy_w: expected a number of at least 0, found \"much\""),
        ("busy_w", "{ a = 1 }", "energy.busy_w: expected a number of at least 0, found a table"),
        ("idle_w", "-1.0", "power.idle_w: expected a number of at least 0, found -1.0"),
        ("idle_w", "61.0", "power.idle_w: expected at most active_idle_w, 60, found 61.0"),
        ("memory_idle_w", "47", "power.memory_idle_w: expected at most idle_w, 46, found 47"),
        ("active_idle_w", "251", "power.active_idle_w: expected at most limit_w, 250, found 251"),
        ("limit_w", "0", "power.limit_w: expected a number above 0, found 0"),
        ("tail_s", "0.0", "power.tail_s: expected a number above 0, as the tail is exponential, found 0.0"),
        (
            "tail",
            "\"exponentail\"",
            "power.tail: expected one of step, exponential, found \"exponentail\" (did you mean \"exponential\"?)",
        ),
        ("tail", "3", "power.tail: expected \"step\" or \"exponential\", found 3"),
        (
            "leakage_w_per_k",
            "6.5",
            "thermal.leakage_w_per_k: expected below 0.9 when multiplied by resistance_k_per_w, 0.15, or the device heats itself without end, found 6.5",
        ),
        ("lowest_mhz", "1411.0", "clock.lowest_mhz: expected at most reference_mhz, 1410, found 1411.0"),
        ("boost_mhz", "209.0", "clock.lowest_mhz: expected at most boost_mhz, 209, found 210.0"),
        ("limiter_s", "0.0", "clock.limiter_s: expected a number above 0, found 0.0"),
        (
            "id",
            "\"nvml\"",
            "sensor[0].id: expected \"sim\", or \"sim-\" or \"sim:\" followed by small letters, digits and hyphens, found \"nvml\"",
        ),
        (
            "kind",
            "\"power\"",
            "sensor[0].kind: expected \"energy\", as the first sensor is the primary meter, found \"power\"",
        ),
        ("domain", "\"all\"", "sensor[0].domain: expected one of board, processor, memory, found \"all\""),
        (
            "update_period_s",
            "0.0",
            "sensor[0].update_period_s: expected a number from 0.00001 to 100, found 0.0",
        ),
        (
            "window_s",
            "0.3",
            "sensor[0].window_s: expected at most the update period 0.1 of an energy counter that looks part of the time, found 0.3",
        ),
        ("window_s", "0.0", "sensor[0].window_s: expected a number above 0 to 100, found 0.0"),
        (
            "jitter_s",
            "0.013",
            "sensor[0].jitter_s: expected at most 0.0125, an eighth of the update period, as updates would overtake each other, found 0.013",
        ),
        (
            "delay_s",
            "[0.0, 0.09]",
            "sensor[0].delay_s: expected numbers that are, with eight times the jitter, at most the update period 0.1 apart, as updates would overtake each other, found [0.0, 0.09]",
        ),
        (
            "delay_s",
            "[0.002, 0.001]",
            "sensor[0].delay_s: expected the smaller number first, found [0.002, 0.001]",
        ),
        (
            "delay_s",
            "[0.002]",
            "sensor[0].delay_s: expected [least, most], each a number from 0 to 100, found [0.002]",
        ),
        ("query_s", "[0.5, 0.1]", "sensor[0].query_s: expected the smaller number first, found [0.5, 0.1]"),
        ("query_s", "[0.1, -0.5]", "sensor[0].query_s: expected a number from 0 to 100, found [0.1, -0.5]"),
        ("noise", "2.0", "sensor[0].noise: expected a number from 0 to 1, found 2.0"),
        (
            "noise_correlation",
            "1.0",
            "sensor[0].noise_correlation: expected a number from 0 to below 1, found 1.0",
        ),
        ("missed", "-0.1", "sensor[0].missed: expected a number from 0 to below 1, found -0.1"),
        ("slow_queries", "1.1", "sensor[0].slow_queries: expected a number from 0 to 1, found 1.1"),
        ("gain", "0.0", "sensor[0].gain: expected a number above 0, found 0.0"),
        ("step", "0", "sensor[0].step: expected a number above 0, found 0"),
        ("name", "\"\"", "name: expected a text of 1 to 100 bytes in one line, found \"\""),
        ("name", "\"a\\nb\"", "name: expected a text of 1 to 100 bytes in one line, found \"a\\nb\""),
    ] {
        let text = a100_with(key, &format!("{key} = {value}"));
        let named = message.split(':').next().unwrap().rsplit('.').next().unwrap();
        let line = line_of(&text, &format!("{named} = "));
        assert_eq!(refusal(&text), format!("x.toml:{line}: {message}"));
    }
}

#[test]
fn missing_and_unknown_keys_are_named() {
    let header = line_of(&preset_text("a100"), "[power]");
    assert_eq!(
        refusal(&a100_with("limit_w", "")),
        format!("x.toml:{header}: power.limit_w: expected a number above 0, found nothing")
    );
    // A misspelt key is also a missing one; the spelling is what has to be mended.
    let text = a100_with("idle_w", "idel_w = 46.0");
    let line = line_of(&text, "idel_w");
    assert_eq!(
        refusal(&text),
        format!(
            "x.toml:{line}: power.idel_w: expected one of idle_w, active_idle_w, memory_idle_w, hold_s, tail, tail_s, \
             limit_w, found the unknown key \"idel_w\" (did you mean \"idle_w\"?)"
        )
    );
    let second = preset_text("a100").replace("noise_correlation = 0.65", "noise_corelation = 0.65");
    assert!(refusal(&second).contains(": sensor[0].noise_corelation: "), "{}", refusal(&second));
    assert!(refusal(&second).ends_with("(did you mean \"noise_correlation\"?)"), "{}", refusal(&second));
    let power = a100_with("[thermal]", "[thermals]");
    assert!(refusal(&power).contains("thermals: expected one of name, speed, "), "{}", refusal(&power));
    assert_eq!(
        refusal(&a100_with("[speed]", "speed = 3\n[rest]").replace("[rest]", "[clocks]")).split(": ").nth(1),
        Some("clocks")
    );
}

#[test]
fn tables_and_sensors_that_are_not_there_are_named() {
    assert_eq!(refusal(""), "x.toml: name: expected a text of 1 to 100 bytes in one line, found nothing");
    let whole = preset_text("a100");
    let (before, _) = whole.split_once("[[sensor]]").unwrap();
    assert_eq!(refusal(before), "x.toml: sensor: expected at least one [[sensor]], found nothing");
    let sensors = |value: &str| refusal(&format!("sensor = {value}\n{before}"));
    assert_eq!(sensors("[]"), "x.toml:1: sensor: expected at least one [[sensor]], found []");
    assert_eq!(sensors("[1]"), "x.toml:1: sensor: expected at least one [[sensor]], found [1]");
    assert_eq!(sensors("2"), "x.toml:1: sensor: expected at least one [[sensor]], found 2");
    let energy = format!("energy = 1\n{whole}");
    assert!(refusal(&energy).contains("not valid TOML: duplicate key"), "{}", refusal(&energy));
    assert!(refusal("name = ").starts_with("x.toml:1: not valid TOML: "), "{}", refusal("name = "));
}

#[test]
fn sensors_that_contradict_each_other_or_themselves_are_named() {
    let twice = preset_text("a100").replace("\"sim-instant\"", "\"sim\"");
    assert!(
        refusal(&twice)
            .contains(": sensor[1].id: expected an id that no sensor before it has, found \"sim\""),
        "{}",
        refusal(&twice)
    );
    let text = preset_text("rtx3090");
    let window = text.lines().find(|line| line.starts_with("window_s = 0.1")).unwrap();
    let without = text.replacen(window, "", 1);
    let header = without.lines().enumerate().filter(|(_, line)| *line == "[[sensor]]").nth(1).unwrap().0 + 1;
    assert_eq!(
        refusal(&without),
        format!(
            "x.toml:{header}: sensor[1].window_s: expected the length of the average that a reading of power is, \
             found nothing"
        )
    );
    // The last sensor of the file is one of power.
    for (added, message) in [
        (
            "wraps_at_j = 100.0",
            "sensor[1].wraps_at_j: expected nothing, as readings of power do not wrap, found 100.0",
        ),
        (
            "fault = { kind = \"reset\", at_s = 1.0 }",
            "sensor[1].fault: expected a fault of the kind \"stuck\", as the others are those of counters, found a table",
        ),
        (
            "fault = { kind = \"stuck\", at_s = -1.0 }",
            "sensor[1].fault.at_s: expected a number of at least 0, found -1.0",
        ),
        (
            "fault = { kind = \"stuck\" }",
            "sensor[1].fault.at_s: expected a number of at least 0, found nothing",
        ),
        (
            "fault = { kind = \"stick\", at_s = 1.0 }",
            "sensor[1].fault.kind: expected one of stuck, reset, read_rate, found \"stick\" (did you mean \"stuck\"?)",
        ),
        (
            "fault = { kind = \"stuck\", at_s = 1.0, per_query_j = 1.0 }",
            "sensor[1].fault.per_query_j: expected one of kind, at_s, found the unknown key \"per_query_j\"",
        ),
    ] {
        let text = format!("{}{added}\n", preset_text("a100"));
        assert_eq!(refusal(&text), format!("x.toml:{}: {message}", text.lines().count()));
    }
    let wraps = a100_with("step", "step = 1.0\nwraps_at_j = 0.5");
    assert!(refusal(&wraps).contains("sensor[0].wraps_at_j: expected above the step, 1, found 0.5"));
}

#[test]
fn what_looks_unusual_but_is_possible_is_read() {
    for (line, by) in [
        ("boost_mhz", "boost_mhz = 900"),
        ("half_full_outputs", "half_full_outputs = 0"),
        ("idle_w", "idle_w = 60.0"),
        ("window_s", "window_s = 0.1"),
        ("id", "id = \"sim:board-0\""),
        ("offset_w", "offset_w = -22.6"),
        ("jitter_s", "jitter_s = 0.0122"),
        ("leakage_w_per_k", "leakage_w_per_k = 5.9"),
        ("name", "name = 'Grüße \"von\" mir'"),
        ("update_period_s", "update_period_s = 1"),
    ] {
        let text = a100_with(line, by);
        let device = DeviceParameters::parse("x.toml", &text).unwrap_or_else(|error| panic!("{by}: {error}"));
        assert_eq!(DeviceParameters::parse("again", &device.to_toml()), Ok(device), "{by}");
    }
}

#[test]
fn a_name_that_is_neither_preset_nor_file_lists_the_presets() {
    assert_eq!(
        DeviceParameters::open("v10").unwrap_err().to_string(),
        "v10: simulated device: expected one of ideal, v100, a100, h200, rtx3090, rapl-server, h200-gain5, or the path \
         of a device file, found \"v10\" (did you mean \"v100\"?)"
    );
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let error = |path: &str| DeviceParameters::open(path).unwrap_err().to_string();
    let found = error(&place("absent.toml"));
    assert!(found.contains("expected one of ideal, ") && found.contains("absent.toml\""), "{found}");
    assert!(error(&place("")).ends_with("expected a device file, found a directory"));
    std::fs::write(place("bytes.toml"), b"name = 'a'\nx = '\xff'\n").unwrap();
    assert_eq!(
        error(&place("bytes.toml")),
        format!("{}:2: encoding: expected UTF-8, found byte 0xff", place("bytes.toml"))
    );
    std::fs::write(place("large.toml"), " ".repeat((1 << 20) + 1)).unwrap();
    assert!(error(&place("large.toml")).ends_with("of at most 1048576 bytes, found a larger one"));
    std::fs::write(place("mine.toml"), preset_text("v100")).unwrap();
    assert_eq!(DeviceParameters::open(&place("mine.toml")), Ok(preset("v100")));
}

/// Words that mean something, to put where they do not belong.
const WORDS: [&str; 12] = [
    "0",
    "-1",
    "1e400",
    "nan",
    "\"\"",
    "[]",
    "{}",
    "true",
    "[[sensor]]\n",
    "[power]\n",
    "9223372036854775808",
    "1979-05-27",
];

proptest! {
    #[test]
    fn mutated_presets_are_read_or_refused(
        which in 0..PRESETS.len(),
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0usize..20, 0..WORDS.len(), any::<u8>()), 1..6),
    ) {
        // Comments would take most of the edits.
        let mut bytes = preset(PRESETS[which]).to_toml().into_bytes();
        for (at, removed, word, byte) in edits {
            let start = at.index(bytes.len());
            let end = (start + removed).min(bytes.len());
            let inserted = if byte < 128 { WORDS[word].as_bytes().to_vec() } else { vec![byte & 0x7f] };
            bytes.splice(start..end, inserted);
        }
        let text = String::from_utf8(bytes).unwrap();
        if let Ok(device) = DeviceParameters::parse("x.toml", &text) {
            prop_assert_eq!(DeviceParameters::parse("again", &device.to_toml()), Ok(device));
        }
    }

    #[test]
    fn arbitrary_text_is_read_or_refused(text in "[ -~\n\"=\\[\\]äπ]{0,200}") {
        let _ = DeviceParameters::parse("x.toml", &text);
    }
}

// ------------------------------------------------------------------------------------------------ random devices

#[test]
fn random_devices_are_valid_and_survive_their_file() {
    for seed in 0..1000 {
        let device = DeviceParameters::random(seed);
        let again = DeviceParameters::parse("x.toml", &device.to_toml());
        assert_eq!(again.unwrap_or_else(|error| panic!("seed {seed}: {error}")), device);
        assert_eq!(DeviceParameters::random(seed), device);
    }
}

#[test]
fn random_devices_fill_their_ranges() {
    let devices: Vec<_> = (0..1000).map(DeviceParameters::random).collect();
    let drawn: [(&str, fn(&SensorParameters) -> f64, f64, f64); 5] = [
        ("gain", |sensor| sensor.gain, 0.95, 1.05),
        ("offset", |sensor| sensor.offset_w, -5.0, 5.0),
        ("period", |sensor| sensor.update_period_s, 0.02, 0.2),
        ("noise", |sensor| sensor.noise, 0.001, 0.01),
        ("missed", |sensor| sensor.missed, 0.0, 0.05),
    ];
    for (name, of, least, most) in drawn {
        // A thousand draws miss the outer hundredth of either end with a probability of 4e-5.
        let values: Vec<f64> = devices.iter().map(|device| of(&device.sensor[0])).collect();
        let (low, high) = values.iter().fold((most, least), |(low, high), &x| (x.min(low), x.max(high)));
        let end = (most - least) / 100.0;
        assert!(
            least <= low && low < least + end && most - end < high && high <= most,
            "{name}: {low} to {high}"
        );
    }
    // Four standard deviations of a binomial count around its mean.
    let count = |holds: &dyn Fn(&DeviceParameters) -> bool| devices.iter().filter(|d| holds(d)).count();
    let part_time = count(&|d| d.sensor[0].window_s.is_some());
    assert!((437..=563).contains(&part_time), "{part_time} look part of the time");
    let faulty = count(&|d| d.sensor.iter().any(|s| s.fault.is_some()));
    assert!((62..=138).contains(&faulty), "{faulty} have a fault");
    let kinds: [fn(&Fault) -> bool; 3] = [
        |f| matches!(f, Fault::Stuck { .. }),
        |f| matches!(f, Fault::Reset { .. }),
        |f| matches!(f, Fault::ReadRate { .. }),
    ];
    for kind in kinds {
        assert!(count(&|d| d.sensor[0].fault.as_ref().is_some_and(kind)) >= 10);
    }
    let limited = count(&|d| full_rate_w(d, 0.1) > d.power.limit_w);
    assert!(limited > 600, "large layers meet the limit on {limited} boards only");
}

// ------------------------------------------------------------------------------------------------ the page

#[test]
fn the_page_describes_every_key() {
    let page = include_str!("../docs/simulated-devices.md");
    let all = format!(
        "{}wraps_at_j = 1.0\nfault = {{ kind = \"read_rate\", per_query_j = 1.0, forgets_within_s = 1.0 }}\nat_s = 1",
        preset("a100").to_toml()
    );
    let keys = all.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    for key in keys.chain(["per_query_j", "forgets_within_s"]) {
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
