//! What is wrong with a device file, and how that is said.

use layerjoule::sim::{DeviceParameters, PRESETS};
use proptest::prelude::*;

use super::{preset, preset_text};

fn refusal(text: &str) -> String {
    DeviceParameters::parse("x.toml", text).unwrap_err().to_string()
}

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
        ("peak_flops_per_s", "0", "speed.peak_flops_per_s: expected a number from 1e6 to 1e18, found 0"),
        ("cache_bytes", "0.0", "speed.cache_bytes: expected a number from 1 to 1e15, found 0.0"),
        (
            "memory_bytes_per_s",
            "-1e9",
            "speed.memory_bytes_per_s: expected a number from 1e6 to 1e18, found -1e9",
        ),
        ("efficiency", "1.5", "speed.efficiency: expected a number from 0.01 to 1, found 1.5"),
        ("gap_s", "-1e-6", "speed.gap_s: expected a number from 0 to 1, found -1e-6"),
        ("flop_j", "nan", "energy.flop_j: expected a number from 0 to 0.001, found nan"),
        ("busy_w", "inf", "energy.busy_w: expected a number from 0 to 100000, found inf"),
        ("busy_w", "1e999", "energy.busy_w: expected a number from 0 to 100000, found 1e999"),
        ("busy_w", "\"much\"", "energy.busy_w: expected a number from 0 to 100000, found \"much\""),
        ("busy_w", "{ a = 1 }", "energy.busy_w: expected a number from 0 to 100000, found a table"),
        ("idle_w", "-1.0", "power.idle_w: expected a number from 0 to 100000, found -1.0"),
        ("idle_w", "61.0", "power.idle_w: expected at most active_idle_w, 60, found 61.0"),
        ("memory_idle_w", "47", "power.memory_idle_w: expected at most idle_w, 46, found 47"),
        ("active_idle_w", "251", "power.active_idle_w: expected at most limit_w, 250, found 251"),
        ("limit_w", "0", "power.limit_w: expected a number above 0 to 100000, found 0"),
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
        ("limiter_s", "0.0", "clock.limiter_s: expected a number from 0.001 to 1, found 0.0"),
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
        ("update_period_s", "0.0", "sensor[0].update_period_s: expected a number from 1e-5 to 2, found 0.0"),
        (
            "window_s",
            "0.3",
            "sensor[0].window_s: expected at most the update period 0.1 of an energy counter that looks part of the time, found 0.3",
        ),
        ("window_s", "0.0", "sensor[0].window_s: expected a number above 0 to 5, found 0.0"),
        (
            "jitter_s",
            "0.026",
            "sensor[0].jitter_s: expected at most 0.025, a quarter of the update period, as updates would overtake each other, found 0.026",
        ),
        (
            "reference_c",
            "150",
            "thermal.reference_c: expected at most 81.9, or leakage leaves less than memory_idle_w of active_idle_w at the 36.9 degrees of rest, found 150",
        ),
        ("limiter_s", "3600", "clock.limiter_s: expected a number from 0.001 to 1, found 3600"),
        (
            "id",
            "\"sim:a\"",
            "sensor[0].id: expected no colon, as the first sensor is the primary meter and no part of another, found \"sim:a\"",
        ),
        ("queues", "1", "speed.queues: expected true or false, found 1"),
        ("queues", "\"true\"", "speed.queues: expected true or false, found \"true\""),
        ("kernel_s", "0", "speed.kernel_s: expected a number from 1e-7 to 1, found 0"),
        (
            "delay_s",
            "[0.002, 0.001]",
            "sensor[0].delay_s: expected the smaller number first, found [0.002, 0.001]",
        ),
        (
            "delay_s",
            "[0.002]",
            "sensor[0].delay_s: expected [least, most], each a number from 0 to 5, found [0.002]",
        ),
        ("query_s", "[0.5, 0.1]", "sensor[0].query_s: expected the smaller number first, found [0.5, 0.1]"),
        ("query_s", "[0.1, -0.5]", "sensor[0].query_s: expected a number from 0 to 1, found [0.1, -0.5]"),
        ("noise", "2.0", "sensor[0].noise: expected a number from 0 to 1, found 2.0"),
        (
            "noise_correlation",
            "1.0",
            "sensor[0].noise_correlation: expected a number from 0 to below 1, found 1.0",
        ),
        ("missed", "-0.1", "sensor[0].missed: expected a number from 0 to 0.5, found -0.1"),
        ("slow_queries", "1.1", "sensor[0].slow_queries: expected a number from 0 to 1, found 1.1"),
        ("gain", "0.0", "sensor[0].gain: expected a number from 0.01 to 100, found 0.0"),
        ("step", "0", "sensor[0].step: expected a number from 1e-12 to 1e6, found 0"),
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
        format!("x.toml:{header}: power.limit_w: expected a number above 0 to 100000, found nothing")
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
            "sensor[1].fault: expected a fault of the kind \"stuck\" or \"silent\", as the others are those of counters, found a table",
        ),
        (
            "fault = { kind = \"stuck\", at_s = -1.0 }",
            "sensor[1].fault.at_s: expected a number from 0 to 1e6, found -1.0",
        ),
        (
            "fault = { kind = \"stuck\" }",
            "sensor[1].fault.at_s: expected a number from 0 to 1e6, found nothing",
        ),
        (
            "fault = { kind = \"stick\", at_s = 1.0 }",
            "sensor[1].fault.kind: expected one of stuck, reset, read_rate, silent, found \"stick\" (did you mean \"stuck\"?)",
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
    assert!(refusal(&wraps).contains("sensor[0].wraps_at_j: expected a multiple of the step, 1, found 0.5"));
}

#[test]
fn what_looks_unusual_but_is_possible_is_read() {
    for (line, by) in [
        ("boost_mhz", "boost_mhz = 900"),
        ("half_full_outputs", "half_full_outputs = 0"),
        ("idle_w", "idle_w = 60.0"),
        ("window_s", "window_s = 0.1"),
        ("id", "id = \"sim-board-0\""),
        ("offset_w", "offset_w = -22.6"),
        ("jitter_s", "jitter_s = 0.0249"),
        ("leakage_w_per_k", "leakage_w_per_k = 2.9"),
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
