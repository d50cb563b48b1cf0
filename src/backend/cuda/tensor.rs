//! How a tensor lies in the device's memory.

use crate::plan::{Layout, Precision};

/// A tensor of the whole batch: its shape, its numbers and their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorForm {
    /// Items; each lies in one piece behind the one before it.
    pub(super) batch: usize,
    /// Shape of an item, as the network says it.
    pub(super) shape: Vec<usize>,
    /// How its numbers are stored.
    pub(super) precision: Precision,
    /// None for row-major items. Otherwise `[c, h, w]`: the item's elements, counted row by row, are those of a
    /// C x H x W tensor that lies as H x W x C. For a C x H x W item that is NHWC; an item that was flattened after that
    /// keeps the order of what it was made from.
    pub(super) channels_last: Option<[usize; 3]>,
}

impl TensorForm {
    /// A tensor that a kernel writes: channels last only where the plan says so and the item has three axes.
    pub(super) fn new(batch: usize, shape: &[usize], precision: Precision, layout: Layout) -> Self {
        let channels_last = match (layout, shape) {
            (Layout::Nhwc, &[c, h, w]) => orderly([c, h, w]),
            _ => None,
        };
        Self { batch, shape: shape.to_vec(), precision, channels_last }
    }

    /// The same elements under another shape, as a view of them.
    pub(super) fn viewed(&self, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Row-major.
    pub(super) fn row_major(&self) -> Self {
        Self { channels_last: None, ..self.clone() }
    }

    /// Elements of an item.
    pub(super) fn item(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements of the batch.
    pub(super) fn elements(&self) -> usize {
        self.batch * self.item()
    }

    /// Bytes of the batch.
    pub(super) fn bytes(&self) -> usize {
        self.elements() * self.precision.bytes()
    }

    /// Distance in elements between neighbours along each axis of an item; none for a flattened tensor in the order of
    /// what it was made from, which has no such distances.
    pub(super) fn strides(&self) -> Option<Vec<usize>> {
        match self.channels_last {
            None => Some(row_major_strides(&self.shape)),
            Some([c, h, w]) if self.shape == [c, h, w] => Some(vec![1, w * c, c]),
            Some(_) => None,
        }
    }

    /// `[c, h, w]` of an item with three axes.
    pub(super) fn planes(&self) -> Option<[usize; 3]> {
        <[usize; 3]>::try_from(self.shape.as_slice()).ok()
    }

    /// Where each element of an item lies, counted row by row.
    pub(super) fn place(&self, index: usize) -> usize {
        match self.channels_last {
            None => index,
            Some([c, h, w]) => {
                let plane = h * w;
                (index % plane) * c + index / plane % c
            }
        }
    }
}

/// Channels last, unless that order is the row-major one.
fn orderly([c, h, w]: [usize; 3]) -> Option<[usize; 3]> {
    (c > 1 && h * w > 1).then_some([c, h, w])
}

/// Distance in elements between neighbours along each axis of a row-major tensor.
pub(super) fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(shape: &[usize], layout: Layout) -> TensorForm {
        TensorForm::new(2, shape, Precision::F16, layout)
    }

    #[test]
    fn channels_lie_beside_each_other_where_they_come_last() {
        let tensor = form(&[3, 2, 4], Layout::Nhwc);
        assert_eq!(tensor.strides(), Some(vec![1, 12, 3]));
        // Element (1, 1, 2) of the item: row-major 1*8 + 1*4 + 2.
        assert_eq!(tensor.place(14), 1 + 12 + 2 * 3);
        assert_eq!(tensor.bytes(), 2 * 24 * 2);
        assert_eq!(form(&[3, 2, 4], Layout::Nchw).place(14), 14);
    }

    #[test]
    fn a_flattened_tensor_keeps_its_order_and_has_no_strides() {
        let flat = form(&[3, 2, 4], Layout::Nhwc).viewed(&[24]);
        assert_eq!(flat.strides(), None);
        assert_eq!(flat.place(14), 1 + 12 + 2 * 3);
        let mut places: Vec<usize> = (0..24).map(|index| flat.place(index)).collect();
        places.sort_unstable();
        assert_eq!(places, (0..24).collect::<Vec<_>>());
    }

    #[test]
    fn orders_that_are_the_same_are_called_the_same() {
        assert_eq!(form(&[5, 1, 1], Layout::Nhwc), form(&[5, 1, 1], Layout::Nchw));
        assert_eq!(form(&[1, 4, 4], Layout::Nhwc), form(&[1, 4, 4], Layout::Nchw));
        assert_eq!(form(&[24], Layout::Nhwc).strides(), Some(vec![1]));
    }
}
