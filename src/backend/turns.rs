//! How many copies of the same data take turns, so that each comes back only after so much else has passed through a
//! cache that nothing of it is left there.

/// What a kind of work moves through the caches each time it is done, and how often it is done on end before the other
/// kind has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passing {
    pub(super) bytes: usize,
    pub(super) times: usize,
}

impl Passing {
    /// Nothing that could drive anything out of a cache.
    pub(super) const NOTHING: Self = Self { bytes: 0, times: 0 };
}

/// Copies of what `own` moves that have to take turns, so that between two uses of one twice the cache has passed. Work
/// that moves as much by itself finds nothing of its last time anyway.
pub(super) fn copies(own: Passing, other: Passing, cache: usize) -> usize {
    let needed = cache.saturating_mul(2);
    if own.bytes == 0 || own.bytes >= needed {
        return 1;
    }
    let (times, others) = (own.times.max(1), other.bytes.saturating_mul(other.times));
    // Between a use and the n-th after it lie n - 1 of the own kind, and the others once in each `times` of them.
    let alone = |others: usize| needed.saturating_sub(others).div_ceil(own.bytes) + 1;
    if others == 0 {
        return alone(0);
    }
    let with = |executions: usize| alone(executions.saturating_mul(others)).max(executions * times);
    let fits = |executions: &usize| with(*executions) < (executions + 1) * times;
    (0..).find(fits).map_or(1, with)
}

/// Which copy each of a number of uses works on, where the first follows the last again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turns {
    uses: usize,
    /// How often a copy comes: the uses are cut into so many rounds, whose lengths differ by one at most.
    rounds: usize,
}

impl Turns {
    /// At least `apart` uses from one of a copy to the next, or all of them, and fewer than twice as many copies.
    pub(super) fn new(uses: usize, apart: usize) -> Self {
        let uses = uses.max(1);
        Self { uses, rounds: (uses / apart.max(1)).max(1) }
    }

    /// The same with `most` copies at most; one at least.
    pub(super) fn fitting(self, most: usize) -> Self {
        Self { rounds: self.rounds.max(self.uses.div_ceil(most.max(1))), ..self }
    }

    /// How many there are.
    pub(super) fn copies(self) -> usize {
        self.uses.div_ceil(self.rounds)
    }

    /// Uses from one of a copy to the next, at least.
    pub(super) fn apart(self) -> usize {
        self.uses / self.rounds
    }

    /// That of a use.
    pub(super) fn copy(self, at: usize) -> usize {
        let at = at % self.uses;
        // The last round that begins at this use or before.
        let round = ((at + 1) * self.rounds - 1) / self.uses;
        at - self.begin(round)
    }

    fn begin(self, round: usize) -> usize {
        round * self.uses / self.rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn alone(bytes: usize) -> Passing {
        Passing { bytes, times: 1 }
    }

    #[test]
    fn copies_come_back_after_twice_the_cache() {
        let copies = |bytes, cache| copies(alone(bytes), Passing::NOTHING, cache);
        // 100 MiB of others between two uses: 20 of 5 MiB, and the one itself.
        assert_eq!(copies(5 * MIB, 50 * MIB), 21);
        assert_eq!(copies(30 * MIB, 50 * MIB), 5);
        assert_eq!(copies(100 * MIB, 50 * MIB), 1);
        assert_eq!(copies(0, 50 * MIB), 1);
        assert_eq!(copies(5 * MIB, 0), 1, "a device without such a cache");
    }

    #[test]
    fn what_runs_between_them_passes_too() {
        let others = |megabytes: usize, times| Passing { bytes: megabytes * MIB, times };
        let copies = |times, other| copies(Passing { bytes: 5 * MIB, times }, other, 50 * MIB);
        // 25 MiB behind each: after n uses (n - 1) x 5 + n x 25 MiB have passed, 110 MiB for n = 4.
        assert_eq!(copies(1, others(25, 1)), 4);
        assert_eq!(copies(1, others(5, 5)), 4);
        // As much as that drives everything out at once.
        assert_eq!(copies(1, others(100, 1)), 1);
        // Two on end: between a use and the n-th after it lie floor(n / 2) others. 5 x 5 + 3 x 25 MiB are 100.
        assert_eq!(copies(2, others(25, 1)), 6);
        // Others that seldom come: with 30 on end it takes 21 of the own kind.
        assert_eq!(copies(30, others(25, 1)), 21);
        // With 10 on end, one 25 MiB and 15 of the own kind between.
        assert_eq!(copies(10, others(25, 1)), 16);
    }

    #[test]
    fn the_number_of_copies_is_the_least_that_keeps_them_apart() {
        let between = |copies: usize, own: Passing, other: Passing| {
            (copies - 1) * own.bytes + copies / own.times * other.bytes * other.times
        };
        for bytes in [1, 3, 10, 64] {
            for times in [1, 2, 5, 40] {
                for (other, others) in [(0, 0), (1, 1), (7, 3), (50, 1), (300, 1)] {
                    let (own, other) = (Passing { bytes, times }, Passing { bytes: other, times: others });
                    let found = copies(own, other, 50);
                    assert!(between(found, own, other) >= 100, "{own:?} {other:?}: {found}");
                    let fewer = (1..found).find(|&fewer| between(fewer, own, other) >= 100);
                    assert_eq!(fewer, None, "{own:?} {other:?}: {found}");
                }
            }
        }
    }

    #[test]
    fn a_copy_comes_back_after_as_many_uses_also_where_the_last_is_followed_by_the_first() {
        for uses in 1..60 {
            for apart in 1..=uses {
                let turns = Turns::new(uses, apart);
                assert!(
                    turns.apart() >= apart && turns.copies() >= apart && turns.copies() < 2 * apart.max(1),
                    "{turns:?}"
                );
                let order: Vec<usize> = (0..uses).map(|at| turns.copy(at)).collect();
                assert_eq!(order.iter().max(), Some(&(turns.copies() - 1)), "{turns:?}");
                for (at, copy) in order.iter().enumerate() {
                    let next = (1..=uses).find(|&later| order[(at + later) % uses] == *copy).unwrap();
                    assert!(next >= turns.apart(), "{turns:?}: {copy} at {at} and {next} later");
                }
                assert_eq!(turns.copy(uses), turns.copy(0));
            }
        }
    }

    #[test]
    fn with_less_room_fewer_copies_take_turns() {
        let turns = Turns::new(100, 30);
        assert_eq!(turns.copies(), 34);
        assert_eq!(turns.fitting(40), turns);
        assert_eq!(turns.fitting(7).copies(), 7);
        assert_eq!(turns.fitting(1).copies(), 1);
        assert_eq!(turns.fitting(0).copies(), 1);
        assert_eq!(Turns::new(3, 30).copies(), 3, "as many as there are uses");
    }
}
