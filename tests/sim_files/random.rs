//! Boards that are drawn from a seed.

use layerjoule::sim::{DeviceParameters, Fault, SensorParameters};

use super::full_rate_w;

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
    type Value = fn(&SensorParameters) -> f64;
    let drawn: [(&str, Value, f64, f64); 5] = [
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
