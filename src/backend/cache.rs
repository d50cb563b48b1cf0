//! Where a step that is repeated finds its data.

/// What the caches hold when a step is repeated on a device with caches large enough to matter. Whole passes are not
/// concerned: their steps find what the steps before them left, as in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheUse {
    /// Nothing of use: its buffers rotate past the last-level cache, so that each execution meets memory that none
    /// before it has touched for long.
    #[default]
    Cold,
    /// What the execution before it left there: it works on the same buffers again.
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
