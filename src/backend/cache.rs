//! What replays find in the caches.

/// Whether repeated executions find their data in the last-level cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheUse {
    /// Buffers rotate, so that nothing is there: weights and inputs come from memory, as weights do in a network whose
    /// layers together are larger than the cache.
    #[default]
    Cold,
    /// The same buffers each time.
    Hot,
}

impl CacheUse {
    /// Its name on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Hot => "hot",
        }
    }
}
