//! A tensor as cuDNN sees it: four axes with their distances.

use crate::backend::cuda::tensor::{TensorForm, row_major_strides};
use crate::plan::Layout;

/// Sizes and distances, in elements, of batch, channels, height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) struct View {
    pub(in crate::backend::cuda) sizes: [usize; 4],
    pub(in crate::backend::cuda) strides: [usize; 4],
}

impl View {
    /// A packed tensor in a layout.
    pub(in crate::backend::cuda) fn packed([n, c, h, w]: [usize; 4], layout: Layout) -> Self {
        let strides = match layout {
            Layout::Nchw => [c * h * w, h * w, w, 1],
            Layout::Nhwc => [c * h * w, 1, w * c, c],
        };
        Self { sizes: [n, c, h, w], strides }
    }

    /// C x H x W items that lie as the layout says, or as both do: of one channel or one place, which are then described
    /// as the layout says, since cuDNN tells layouts by distances.
    pub(in crate::backend::cuda) fn planes(form: &TensorForm, layout: Layout) -> Option<Self> {
        let [c, h, w] = form.planes()?;
        let usual = TensorForm::new(form.batch, &form.shape, form.precision, layout);
        (*form == usual).then(|| Self::packed([form.batch, c, h, w], layout))
    }

    /// The tensor with one axis of its items as the channels; what lies outside it counts as batch.
    pub(in crate::backend::cuda) fn along(form: &TensorForm, axis: usize) -> Option<Self> {
        let &channels = form.shape.get(axis)?;
        match form.channels_last {
            None => {
                let inner = row_major_strides(&form.shape)[axis];
                let outer = form.batch * form.shape[..axis].iter().product::<usize>();
                Some(Self::packed([outer, channels, inner, 1], Layout::Nchw))
            }
            Some([c, h, w]) if form.shape == [c, h, w] && axis == 0 => {
                Some(Self::packed([form.batch, c, h, w], Layout::Nhwc))
            }
            Some(_) => None,
        }
    }

    /// All elements in the order in which they lie.
    pub(in crate::backend::cuda) fn flat(form: &TensorForm) -> Self {
        Self::packed([form.batch, 1, 1, form.item()], Layout::Nchw)
    }

    /// A vector along the channels, for all items and places.
    pub(in crate::backend::cuda) fn channels(count: usize) -> Self {
        Self::packed([1, count, 1, 1], Layout::Nchw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Precision;

    fn form(shape: &[usize], layout: Layout) -> TensorForm {
        TensorForm::new(2, shape, Precision::F32, layout)
    }

    #[test]
    fn planes_have_the_distances_of_their_layout() {
        let strides = |layout| View::planes(&form(&[3, 4, 5], layout), layout).unwrap().strides;
        assert_eq!(strides(Layout::Nchw), [60, 20, 5, 1]);
        assert_eq!(strides(Layout::Nhwc), [60, 1, 15, 3]);
    }

    #[test]
    fn one_channel_is_described_as_the_layout_says() {
        let view = View::planes(&form(&[1, 4, 5], Layout::Nhwc), Layout::Nhwc).unwrap();
        assert_eq!(view.strides, [20, 1, 5, 1]);
        let place = View::planes(&form(&[7, 1, 1], Layout::Nhwc), Layout::Nhwc).unwrap();
        assert_eq!(place.strides, [7, 1, 7, 7]);
    }

    #[test]
    fn what_lies_otherwise_is_no_view_of_planes() {
        assert_eq!(View::planes(&form(&[3, 4, 5], Layout::Nchw), Layout::Nhwc), None);
        assert_eq!(View::planes(&form(&[60], Layout::Nchw), Layout::Nchw), None);
    }

    #[test]
    fn any_axis_of_a_row_major_tensor_can_be_the_channels() {
        let plain = form(&[3, 4, 5], Layout::Nchw);
        let view = View::along(&plain, 1).unwrap();
        assert_eq!((view.sizes, view.strides), ([6, 4, 5, 1], [20, 5, 1, 1]));
        assert_eq!(View::along(&form(&[10], Layout::Nchw), 0).unwrap().sizes, [2, 10, 1, 1]);
        let last = form(&[3, 4, 5], Layout::Nhwc);
        assert_eq!(View::along(&last, 0).unwrap().strides, [60, 1, 15, 3]);
        assert_eq!(View::along(&last, 2), None);
    }
}
