//! Places for labels: beside their points, and never on top of each other.

/// An upright rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// A rectangle of this size around a point.
    pub(super) fn around((x, y): (f64, f64), width: f64, height: f64) -> Self {
        let (w, h) = (width / 2.0, height / 2.0);
        Self { left: x - w, top: y - h, right: x + w, bottom: y + h }
    }

    /// Whether the two share any point.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    /// Whether the other lies inside.
    pub(super) fn holds(&self, other: &Self) -> bool {
        other.left >= self.left
            && other.right <= self.right
            && other.top >= self.top
            && other.bottom <= self.bottom
    }

    /// The point of the rectangle nearest to another point.
    pub(super) fn nearest(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }

    /// Whether a straight line crosses the rectangle; looks every few pixels.
    fn crossed(&self, from: (f64, f64), to: (f64, f64)) -> bool {
        const STEPS: usize = 24;
        (0..=STEPS).any(|k| {
            let share = k as f64 / STEPS as f64;
            let (x, y) = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            x > self.left && x < self.right && y > self.top && y < self.bottom
        })
    }
}

/// A label's place, with the line that leads to its point where the two are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// The label.
    pub(super) area: Area,
    /// From the point to the label.
    pub(super) leader: Option<[(f64, f64); 2]>,
}

/// What is taken already.
#[derive(Debug, Clone)]
pub(super) struct Board {
    bounds: Area,
    taken: Vec<Area>,
    thin: Vec<Area>,
    leaders: Vec<[(f64, f64); 2]>,
}

impl Board {
    /// An empty board.
    pub(super) fn new(bounds: Area) -> Self {
        Self { bounds, taken: vec![], thin: vec![], leaders: vec![] }
    }

    /// Keeps labels off a rectangle.
    pub(super) fn take(&mut self, area: Area) {
        self.taken.push(area);
    }

    /// Keeps labels off a thin line, which leaders may cross.
    pub(super) fn take_line(&mut self, area: Area) {
        self.thin.push(area);
    }

    /// The first free place beside a point, trying rings of growing radius; none when all are taken.
    pub(super) fn place(&mut self, point: (f64, f64), width: f64, height: f64) -> Option<Place> {
        const RADII: [f64; 6] = [9.0, 20.0, 34.0, 50.0, 70.0, 95.0];
        // Right and left first: a label there needs no leader.
        const DIRECTIONS: [(f64, f64); 12] = [
            (1.0, 0.0),
            (-1.0, 0.0),
            (0.0, -1.0),
            (0.0, 1.0),
            (0.7, -0.7),
            (0.7, 0.7),
            (-0.7, -0.7),
            (-0.7, 0.7),
            (0.94, -0.34),
            (0.94, 0.34),
            (-0.94, -0.34),
            (-0.94, 0.34),
        ];
        let tries = RADII.iter().flat_map(|r| DIRECTIONS.iter().map(move |d| (*r, *d)));
        let place =
            tries.map(|(r, d)| self.candidate(point, (width, height), r, d)).find(|p| self.free(p))?;
        self.taken.push(place.area);
        self.leaders.extend(place.leader);
        Some(place)
    }

    fn candidate(&self, point: (f64, f64), size: (f64, f64), radius: f64, (dx, dy): (f64, f64)) -> Place {
        let (width, height) = size;
        let x = point.0 + dx * radius + dx.signum() * f64::from(u8::from(dx != 0.0)) * width / 2.0;
        let y = point.1 + dy * radius + dy * height / 2.0;
        let area = Area::around((x, y), width, height);
        let leader = (radius > 10.0).then(|| [point, area.nearest(point)]);
        Place { area, leader }
    }

    fn free(&self, place: &Place) -> bool {
        let clear = self.bounds.holds(&place.area)
            && !self.taken.iter().chain(&self.thin).any(|t| t.meets(&place.area))
            && !self.leaders.iter().any(|l| place.area.crossed(l[0], l[1]));
        // A leader starts inside its own mark, so marks do not block it: labels do, being wider.
        let path = place.leader.is_none_or(|[from, to]| {
            !self
                .taken
                .iter()
                .filter(|t| !t.holds(&Area::around(from, 0.0, 0.0)))
                .any(|t| t.crossed(from, to))
        });
        clear && path
    }
}

/// Moves positions apart until neighbours are `spacing` apart, inside `range`, as near to where they were as
/// their order allows. Positions come in rising order; they must fit the range.
pub(super) fn spread(wanted: &[f64], spacing: f64, range: (f64, f64)) -> Vec<f64> {
    let mut places = wanted.to_vec();
    let mut least = range.0;
    for place in &mut places {
        *place = place.max(least);
        least = *place + spacing;
    }
    let mut most = range.1;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - spacing;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_one_point_do_not_meet() {
        let mut board = Board::new(Area { left: 0.0, top: 0.0, right: 400.0, bottom: 400.0 });
        let places: Vec<Place> = (0..8).filter_map(|_| board.place((200.0, 200.0), 60.0, 14.0)).collect();
        // Right, left, above and below are free; farther labels may find their leaders blocked.
        assert!(places.len() >= 4);
        for (i, a) in places.iter().enumerate() {
            assert!(places[i + 1..].iter().all(|b| !a.area.meets(&b.area)));
        }
    }

    #[test]
    fn a_label_that_fits_nowhere_is_left_out() {
        let mut board = Board::new(Area { left: 0.0, top: 0.0, right: 50.0, bottom: 50.0 });
        assert!(board.place((25.0, 25.0), 60.0, 14.0).is_none());
    }

    #[test]
    fn spread_positions_keep_their_distance_and_stay_inside() {
        let places = spread(&[1.0, 1.0, 2.0, 99.0, 100.0], 10.0, (0.0, 100.0));
        assert!(places.windows(2).all(|p| p[1] - p[0] >= 10.0 - 1e-9));
        assert!(places[0] >= 0.0 && places[4] <= 100.0);
        assert_eq!(spread(&[20.0, 60.0], 10.0, (0.0, 100.0)), vec![20.0, 60.0]);
    }
}
