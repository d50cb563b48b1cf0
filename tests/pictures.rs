//! The pictures of a run: readable, complete, honest about what is not measured, and the same every time.

mod example;

use std::sync::Arc;

use resvg::usvg::{Node, Options, Rect, Tree, fontdb};

use layerjoule::report::{OKABE_ITO, Picture, Status, pictures, png};
use layerjoule::stats::Estimate;
use layerjoule::trace::Sample;
use layerjoule::units::Joules;

use example::{Example, deep, lenet, ragged, resnet};

const REGULAR: &[u8] = include_bytes!("../src/report/fonts/DejaVuSans.ttf");
const BOLD: &[u8] = include_bytes!("../src/report/fonts/DejaVuSans-Bold.ttf");

fn draw(example: &Example) -> Vec<Picture> {
    pictures(&example.report, Some(&example.trace)).expect("pictures are drawn")
}

fn tree(svg: &str) -> Tree {
    let mut options = Options::default();
    for font in [REGULAR, BOLD] {
        options.fontdb_mut().load_font_source(fontdb::Source::Binary(Arc::new(font)));
    }
    Tree::from_str(svg, &options).expect("an SVG document")
}

/// Every text of a picture with the box around it, in pixels.
fn texts(tree: &Tree) -> Vec<(String, Rect)> {
    fn walk(nodes: &[Node], found: &mut Vec<(String, Rect)>) {
        for node in nodes {
            match node {
                Node::Group(group) => walk(group.children(), found),
                Node::Text(text) => {
                    let words = text.chunks().iter().map(|c| c.text()).collect::<String>();
                    found.push((words.trim().to_string(), text.abs_bounding_box()));
                }
                _ => {}
            }
        }
    }
    let mut found = vec![];
    walk(tree.root().children(), &mut found);
    found
}

fn words(picture: &Picture) -> String {
    texts(&tree(&picture.svg)).into_iter().map(|(text, _)| text).collect::<Vec<_>>().join("\n")
}

fn picture<'a>(all: &'a [Picture], name: &str) -> &'a Picture {
    all.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no picture {name}"))
}

/// The boxes reach from ascender to descender, where most texts have no ink: neighbouring lines may share this
/// many pixels of it.
const SHARED_LEADING: f32 = 0.6;

fn assert_readable(picture: &Picture) {
    let tree = tree(&picture.svg);
    let (width, height) = (tree.size().width(), tree.size().height());
    let texts = texts(&tree);
    assert!(!texts.is_empty(), "{}: no text", picture.name);
    for (text, area) in &texts {
        let inside =
            area.left() >= 0.0 && area.top() >= 0.0 && area.right() <= width && area.bottom() <= height;
        assert!(inside, "{}: {text:?} at {area:?} leaves {width} x {height}", picture.name);
    }
    for (k, (a, here)) in texts.iter().enumerate() {
        for (b, there) in &texts[k + 1..] {
            let across = here.right().min(there.right()) - here.left().max(there.left());
            let down = here.bottom().min(there.bottom()) - here.top().max(there.top());
            let apart = across <= SHARED_LEADING || down <= SHARED_LEADING;
            assert!(apart, "{}: {a:?} at {here:?} meets {b:?} at {there:?}", picture.name);
        }
    }
    let ink = tree.root().abs_stroke_bounding_box();
    let inside = ink.left() >= -0.01
        && ink.top() >= -0.01
        && ink.right() <= width + 0.01
        && ink.bottom() <= height + 0.01;
    assert!(inside, "{}: shapes reach {ink:?}, canvas {width} x {height}", picture.name);
}

fn examples() -> Vec<(&'static str, Example)> {
    vec![
        ("lenet", lenet()),
        ("lenet-estimated", lenet().estimated()),
        ("resnet", resnet()),
        ("resnet-simulated", resnet().simulated()),
        ("resnet-missing", resnet().with_missing()),
        ("resnet-training", resnet().training()),
        ("deep", deep(170)),
        ("deep-estimated", deep(170).estimated()),
        ("deep-missing", deep(170).with_missing()),
        ("huge", deep(900)),
        ("ragged", ragged()),
        ("markup", lenet().with_markup()),
        ("empty", lenet().empty()),
    ]
}

#[test]
fn no_text_of_any_picture_overlaps_another_or_leaves_the_canvas() {
    for (name, example) in examples() {
        for picture in draw(&example) {
            println!("{name} {}", picture.name);
            assert_readable(&picture);
        }
    }
}

/// The check above would be worth nothing if the boxes were empty.
#[test]
#[should_panic(expected = "meets")]
fn the_check_sees_texts_that_overlap() {
    let text =
        |x: u32| format!(r#"<text x="{x}" y="30" font-family="DejaVu Sans" font-size="12">conv1</text>"#);
    let size = r#"xmlns="http://www.w3.org/2000/svg" width="200" height="60""#;
    let svg = format!("<svg {size}>{}{}</svg>", text(20), text(50));
    assert_readable(&Picture { name: "overlapping", svg });
}

#[test]
fn there_are_three_pictures_without_a_trace_and_four_with_one() {
    let example = lenet();
    let names = |p: Vec<Picture>| p.iter().map(|p| p.name).collect::<Vec<_>>();
    let three = ["energy_by_kind", "energy_per_layer", "energy_per_flop"];
    assert_eq!(names(pictures(&example.report, None).unwrap()), three);
    assert_eq!(names(draw(&example))[3], "power_over_time");
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let (a, b) = (draw(&resnet()), draw(&resnet()));
    assert_eq!(a, b);
    assert_eq!(png(&a[0].svg).unwrap(), png(&b[0].svg).unwrap());
}

#[test]
fn every_picture_names_network_batch_phase_device_engine_meter_and_scope() {
    for picture in draw(&resnet()) {
        let words = words(&picture);
        for part in ["resnet-60", "batch 1", "forward", "EPYC", "im2col", "rapl-perf", "CPU packages"] {
            assert!(words.contains(part), "{}: no {part:?} in\n{words}", picture.name);
        }
    }
}

#[test]
fn estimated_simulated_and_emulated_runs_say_so_in_every_picture() {
    let mut both = lenet().estimated().simulated();
    both.report.emulated = true;
    for picture in draw(&both) {
        let words = words(&picture);
        for mark in ["ESTIMATED: modelled, not measured; ±50 % systematic", "SIMULATED", "EMULATED"] {
            assert!(words.contains(mark), "{}: no {mark:?} in\n{words}", picture.name);
        }
    }
    for picture in draw(&lenet()) {
        let words = words(&picture);
        assert!(!words.contains("ATED:"), "{}: {words}", picture.name);
    }
}

#[test]
fn axes_carry_their_units_and_error_bars_their_meaning() {
    let all = draw(&lenet());
    for (name, unit) in [
        ("energy_by_kind", "energy of one pass [mJ]"),
        ("energy_per_layer", "energy of one execution [mJ]"),
        ("energy_per_flop", "energy per FLOP [nJ/FLOP]"),
        ("energy_per_flop", "arithmetic intensity [FLOP/byte]"),
        ("power_over_time", "power [W]"),
        ("power_over_time", "time since the first window [s]"),
    ] {
        assert!(words(picture(&all, name)).contains(unit), "{name}: {}", words(picture(&all, name)));
    }
    for name in ["energy_by_kind", "energy_per_layer", "energy_per_flop"] {
        assert!(words(picture(&all, name)).contains("95 % interval"), "{name}");
    }
}

#[test]
fn each_layer_stands_in_its_picture_with_value_interval_and_share() {
    let example = lenet();
    let words = words(picture(&draw(&example), "energy_per_layer"));
    for layer in &example.report.layers {
        assert!(words.contains(&layer.name), "{} in\n{words}", layer.name);
    }
    // conv1 of the example: 2.30 mJ with 2 % half width, 2.3 of 11.42 mJ in all.
    assert!(words.contains("2.30 ± 0.05 mJ") && words.contains("20.1 %"), "{words}");
}

#[test]
fn a_layer_without_a_number_is_shown_without_one() {
    let words = words(picture(&draw(&resnet().with_missing()), "energy_per_layer"));
    for part in ["< 0.004 mJ", "no reading", "no work", "below detection", "the counter did not move"] {
        assert!(words.contains(part), "no {part:?} in\n{words}");
    }
}

#[test]
fn layers_without_flops_are_counted_and_left_out() {
    let words = words(picture(&draw(&deep(170)), "energy_per_flop"));
    assert!(words.contains("with no FLOPs or no bytes"), "{words}");
}

#[test]
fn a_png_is_twice_the_size_of_its_svg() {
    for picture in draw(&lenet()) {
        let size = tree(&picture.svg).size();
        let bytes = png(&picture.svg).unwrap();
        // PNG specification, 11.2.2: width and height are big-endian at bytes 16 and 20.
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(&bytes[1..4], b"PNG");
        assert_eq!((number(16), number(20)), (size.width() as u32 * 2, size.height() as u32 * 2));
    }
}

#[test]
fn names_with_markup_and_control_characters_stay_text() {
    let example = lenet().with_markup();
    for picture in draw(&example) {
        assert_readable(&picture);
        assert!(!picture.svg.contains("<script") && !picture.svg.contains("</text><svg"));
        assert!(!picture.svg.chars().any(|c| c.is_control() && c != '\n'), "{}", picture.name);
    }
}

#[test]
fn empty_runs_give_pictures_that_say_why_they_are_empty() {
    let example = lenet().empty();
    for picture in draw(&example) {
        assert_readable(&picture);
        assert!(words(&picture).contains("Nothing to show"), "{}", picture.name);
    }
}

#[test]
fn a_run_without_any_reading_is_drawn_without_numbers() {
    let mut example = resnet();
    for layer in &mut example.report.layers {
        (layer.energy_j, layer.time_s, layer.power_w, layer.share) = (None, None, None, None);
        layer.status = Status::Unavailable;
    }
    for kind in &mut example.report.kinds {
        (kind.energy_j, kind.share) = (None, None);
    }
    example.report.idle.power_w = None;
    example.report.closure[0].residual_j = None;
    for picture in draw(&example) {
        assert_readable(&picture);
    }
}

#[test]
fn absurd_numbers_neither_panic_nor_hang_nor_leave_the_canvas() {
    let absurd =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e300, 1e-300, f64::MAX, f64::MIN_POSITIVE];
    for (k, value) in absurd.into_iter().enumerate() {
        let mut example = lenet();
        for (shift, layer) in example.report.layers.iter_mut().enumerate() {
            let low = absurd[(k + shift) % absurd.len()];
            layer.energy_j = Some(Estimate { value: value.into(), low: low.into(), high: Joules::new(1e-3) });
            layer.share = Some(value);
            layer.upper_j = Some(value.into());
        }
        example.report.layers[0].flops = u64::MAX;
        example.report.layers[0].flops_elementwise = u64::MAX;
        example.report.kinds[0].energy_j = example.report.layers[0].energy_j;
        example.report.idle.power_w =
            Some(Estimate { value: value.into(), low: value.into(), high: value.into() });
        let absurd_sample = |(shift, sample): (usize, Sample)| match shift % 7 {
            0 => Sample { energy: Joules::new(absurd[(k + shift) % absurd.len()]), ..sample },
            _ => sample,
        };
        example.trace.samples = example.trace.samples.iter().enumerate().map(absurd_sample).collect();
        example.report.meters[0].systematic_relative = Some(value);
        for picture in draw(&example) {
            assert_readable(&picture);
            assert!(png(&picture.svg).is_ok());
        }
    }
}

#[test]
fn very_long_names_are_shortened_not_clipped() {
    let mut example = lenet();
    let long = "W".repeat(5_000);
    for layer in &mut example.report.layers {
        layer.name = long.clone();
    }
    for layer in &mut example.trace.header.layers {
        layer.name = long.clone();
    }
    example.report.network.name = long.clone();
    example.report.device.name = long.clone();
    example.report.device.engine = long.clone();
    example.report.meters[0].scope = long.clone();
    for picture in draw(&example) {
        assert_readable(&picture);
    }
}

#[test]
fn colours_of_kinds_are_those_of_okabe_and_ito() {
    let svg = &picture(&draw(&lenet()), "energy_by_kind").svg.clone();
    // conv is blue, linear vermillion.
    for [r, g, b] in [OKABE_ITO[5], OKABE_ITO[6]] {
        assert!(svg.contains(&format!("#{r:02X}{g:02X}{b:02X}")));
    }
}

#[test]
fn a_trace_of_many_rounds_says_which_are_shown() {
    let words = words(picture(&draw(&deep(900)), "power_over_time"));
    assert!(words.contains("Shown: the first"), "{words}");
}

/// Writes every example to a folder, to be looked at: `PICTURES=DIR cargo test write_pictures -- --ignored`.
#[test]
#[ignore = "writes files for people to look at"]
fn write_pictures() {
    let Some(folder) = std::env::var_os("PICTURES").map(std::path::PathBuf::from) else {
        panic!("set PICTURES to the folder to write to");
    };
    std::fs::create_dir_all(&folder).unwrap();
    for (name, example) in examples() {
        for picture in draw(&example) {
            let path = folder.join(format!("{name}-{}", picture.name));
            std::fs::write(path.with_extension("svg"), &picture.svg).unwrap();
            std::fs::write(path.with_extension("png"), png(&picture.svg).unwrap()).unwrap();
        }
    }
}
