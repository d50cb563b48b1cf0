//! How large the last-level cache is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One cache as sysfs shows it (Documentation/ABI/testing/sysfs-devices-system-cpu of the Linux kernel).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cache {
    level: u32,
    bytes: usize,
    /// The processors that share it.
    shared: String,
}

/// Bytes of all last-level caches that so many threads can reach at the same time; none where the system does not tell.
/// Processors of several dies have one on each, and a thread may run on any.
pub(super) fn last_level(root: &Path, threads: usize) -> Option<usize> {
    let processors = entries(&root.join("devices/system/cpu"), "cpu");
    let caches: BTreeSet<Cache> = processors
        .iter()
        .flat_map(|processor| entries(&processor.join("cache"), "index"))
        .filter_map(|index| cache(&index))
        .collect();
    let level = caches.iter().map(|cache| cache.level).max()?;
    let mut last: Vec<usize> =
        caches.iter().filter(|cache| cache.level == level).map(|cache| cache.bytes).collect();
    last.sort_unstable_by(|a, b| b.cmp(a));
    Some(last.into_iter().take(threads).sum())
}

/// Folders whose name is a word and a number.
fn entries(folder: &Path, word: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let numbered = |path: &PathBuf| {
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix(word));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    entries.flatten().map(|entry| entry.path()).filter(numbered).collect()
}

/// The cache in a folder, if it holds data.
fn cache(folder: &Path) -> Option<Cache> {
    let read = |name: &str| Some(fs::read_to_string(folder.join(name)).ok()?.trim().to_string());
    if read("type")? == "Instruction" {
        return None;
    }
    Some(Cache {
        level: read("level")?.parse().ok()?,
        bytes: bytes(&read("size")?)?,
        shared: read("shared_cpu_list")?,
    })
}

/// A size such as `32768K`.
fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 'K') => (&text[..at], 1 << 10),
        (at, 'M') => (&text[..at], 1 << 20),
        (at, 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<usize>().ok()?.checked_mul(unit).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Processors with one cache of data and instructions each, and these caches behind: for each processor, level,
    /// size and who shares it.
    fn machine(behind: &[&[(&str, &str, &str)]]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (processor, caches) in behind.iter().enumerate() {
            let own = processor.to_string();
            let first = [("1", "48K", own.as_str())];
            for (index, (level, size, shared)) in first.iter().chain(*caches).enumerate() {
                let folder =
                    root.path().join(format!("devices/system/cpu/cpu{processor}/cache/index{index}"));
                fs::create_dir_all(&folder).unwrap();
                for (name, text) in
                    [("level", *level), ("size", *size), ("shared_cpu_list", *shared), ("type", "Unified")]
                {
                    fs::write(folder.join(name), format!("{text}\n")).unwrap();
                }
            }
        }
        fs::create_dir_all(root.path().join("devices/system/cpu/cpufreq")).unwrap();
        root
    }

    #[test]
    fn a_cache_that_all_share_counts_once() {
        let both: &[_] = &[("2", "1M", "0-1"), ("3", "32768K", "0-1")];
        let root = machine(&[both, both]);
        assert_eq!(last_level(root.path(), 1), Some(32 << 20));
        assert_eq!(last_level(root.path(), 2), Some(32 << 20));
    }

    #[test]
    fn caches_of_several_dies_count_as_far_as_threads_reach_them() {
        let die = |shared| [("3", "16M", shared)];
        let (first, second) = (die("0-1"), die("2-3"));
        let root = machine(&[&first, &first, &second, &second]);
        assert_eq!(last_level(root.path(), 1), Some(16 << 20));
        assert_eq!(last_level(root.path(), 4), Some(32 << 20));
    }

    #[test]
    fn a_machine_that_does_not_tell_has_no_known_cache() {
        let root = TempDir::new().unwrap();
        assert_eq!(last_level(root.path(), 2), None);
        let strange = machine(&[&[]]);
        fs::write(strange.path().join("devices/system/cpu/cpu0/cache/index0/size"), "much\n").unwrap();
        assert_eq!(last_level(strange.path(), 2), None);
        assert_eq!([bytes("0K"), bytes(""), bytes("512")], [None, None, Some(512)]);
    }
}
