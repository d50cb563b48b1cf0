//! What a layer computes: the closed set of kinds with their parameters.

use std::fmt;

/// Height and width of a window, a stride or a dilation.
pub type Size2 = [usize; 2];

/// Rows and columns of padding: top, left, bottom, right.
pub type Padding = [usize; 4];

/// Rows and columns that a pad layer adds: top, left, bottom, right; below 0 it cuts them off.
pub type Border = [isize; 4];

/// A 2-D convolution over C x H x W, cross-correlation as in every framework.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Output channels.
    pub out_channels: usize,
    /// Kernel height and width.
    pub kernel: Size2,
    /// Step of the window.
    pub stride: Size2,
    /// Zero padding.
    pub padding: Padding,
    /// Distance between neighbouring kernel taps.
    pub dilation: Size2,
    /// Groups; equal to the input channels for a depthwise convolution.
    pub groups: usize,
    /// Whether a bias per output channel is added.
    pub bias: bool,
}

/// A fully connected layer over the last axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Output features.
    pub out_features: usize,
    /// Whether a bias per output feature is added.
    pub bias: bool,
}

/// A window that moves over height and width.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Window height and width.
    pub kernel: Size2,
    /// Step of the window.
    pub stride: Size2,
    /// Padding: minus infinity for max pooling, zero for average pooling.
    pub padding: Padding,
    /// Distance between neighbouring window taps.
    pub dilation: Size2,
    /// Rounds the output size up instead of down; a window never starts in the bottom or right padding.
    pub ceil_mode: bool,
    /// Average pooling only: padded positions count in the divisor.
    pub count_include_pad: bool,
}

/// An element-wise activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x for x >= 0, alpha * x below.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// tanh(x)
    Tanh,
    /// x * sigmoid(x)
    Silu,
    /// x * hard_sigmoid(x) with alpha 1/6 and beta 1/2
    HardSwish,
    /// min(max(alpha * x + beta, 0), 1)
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// min(max(x, min), max)
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

/// Local response normalisation across channels (Krizhevsky 2012, section 3.3, in ONNX's form):
/// y = x / (k + alpha / size * sum of x^2 over `size` neighbouring channels)^beta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lrn {
    /// Channels in the sum.
    pub size: usize,
    /// Scale.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Offset.
    pub k: f32,
}

/// What a layer computes. Shapes never include the batch, which is always the first axis.
#[derive(Debug, Clone, PartialEq)]
pub enum LayerKind {
    /// 2-D convolution.
    Conv(Conv),
    /// Fully connected layer.
    Linear(Linear),
    /// Element-wise activation.
    Activation(Activation),
    /// Maximum over a window.
    MaxPool(Pool),
    /// Mean over a window.
    AvgPool(Pool),
    /// Mean over height and width; C x 1 x 1.
    GlobalAvgPool,
    /// Maximum over height and width; C x 1 x 1.
    GlobalMaxPool,
    /// Inference form: gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Local response normalisation.
    Lrn(Lrn),
    /// Sum of its inputs, or of one input and a stored operand.
    Add {
        /// Shape of the stored operand, broadcast against the input from the right.
        operand: Option<Vec<usize>>,
    },
    /// Product of its inputs, broadcast where an axis is 1, or of one input and a stored operand.
    Mul {
        /// Shape of the stored operand, broadcast against the input from the right.
        operand: Option<Vec<usize>>,
    },
    /// Joins its inputs along an axis; 0 is the channel axis.
    Concat {
        /// Axis, the batch not counted.
        axis: usize,
    },
    /// All axes into one; moves no data.
    Flatten,
    /// Another shape over the same elements; moves no data.
    Reshape {
        /// The new shape.
        shape: Vec<usize>,
    },
    /// Axes in another order.
    Transpose {
        /// Output axis i is input axis `perm[i]`, the batch not counted.
        perm: Vec<usize>,
    },
    /// Channels of `groups` groups interleaved (ShuffleNet, Zhang 2018, section 3.1).
    ChannelShuffle {
        /// Groups.
        groups: usize,
    },
    /// Nothing at inference; moves no data.
    Dropout {
        /// Probability of dropping an element in training.
        p: f32,
    },
    /// exp(x) / sum exp(x) along an axis.
    Softmax {
        /// Axis, the batch not counted.
        axis: usize,
    },
    /// A border of a constant around height and width, or a border cut off.
    Pad {
        /// Rows and columns to add; below 0, to cut off.
        padding: Border,
        /// The constant.
        value: f32,
    },
}

impl Activation {
    /// The standard name of the activation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Silu => "silu",
            Self::HardSwish => "hard_swish",
            Self::HardSigmoid { .. } => "hard_sigmoid",
            Self::Clip { .. } => "clip",
        }
    }
}

impl LayerKind {
    /// The standard name of the kind, as in network files and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv(_) => "conv",
            Self::Linear(_) => "linear",
            Self::Activation(activation) => activation.name(),
            Self::MaxPool(_) => "max_pool",
            Self::AvgPool(_) => "avg_pool",
            Self::GlobalAvgPool => "global_avg_pool",
            Self::GlobalMaxPool => "global_max_pool",
            Self::BatchNorm { .. } => "batch_norm",
            Self::Lrn(_) => "lrn",
            Self::Add { .. } => "add",
            Self::Mul { .. } => "mul",
            Self::Concat { .. } => "concat",
            Self::Flatten => "flatten",
            Self::Reshape { .. } => "reshape",
            Self::Transpose { .. } => "transpose",
            Self::ChannelShuffle { .. } => "channel_shuffle",
            Self::Dropout { .. } => "dropout",
            Self::Softmax { .. } => "softmax",
            Self::Pad { .. } => "pad",
        }
    }

    /// Whether inference moves no data for this kind: its output is its input under another shape.
    pub fn is_view(&self) -> bool {
        matches!(self, Self::Flatten | Self::Reshape { .. } | Self::Dropout { .. })
    }
}

/// The kind with all its parameters, unique per computation: the middle part of a layer's signature.
impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let window = |f: &mut fmt::Formatter<'_>, k: Size2, s: Size2, p: Padding, d: Size2| {
            write!(f, " k{}x{} s{}x{}", k[0], k[1], s[0], s[1])?;
            write!(f, " p{},{},{},{} d{}x{}", p[0], p[1], p[2], p[3], d[0], d[1])
        };
        match self {
            Self::Conv(c) => {
                window(f, c.kernel, c.stride, c.padding, c.dilation)?;
                write!(f, " g{}{}", c.groups, if c.bias { " bias" } else { "" })
            }
            Self::Linear(l) => write!(f, "{}", if l.bias { " bias" } else { "" }),
            Self::MaxPool(p) | Self::AvgPool(p) => {
                window(f, p.kernel, p.stride, p.padding, p.dilation)?;
                write!(f, "{}", if p.ceil_mode { " ceil" } else { "" })?;
                write!(f, "{}", if p.count_include_pad { " include_pad" } else { "" })
            }
            Self::Activation(Activation::LeakyRelu { alpha }) => write!(f, " {alpha}"),
            Self::Activation(Activation::HardSigmoid { alpha, beta }) => write!(f, " {alpha},{beta}"),
            Self::Activation(Activation::Clip { min, max }) => write!(f, " {min},{max}"),
            Self::BatchNorm { epsilon } => write!(f, " e{epsilon}"),
            Self::Lrn(l) => write!(f, " n{} a{} b{} k{}", l.size, l.alpha, l.beta, l.k),
            Self::Add { operand: Some(shape) } | Self::Mul { operand: Some(shape) } => {
                write!(f, " by {}", crate::network::shape_text(shape))
            }
            Self::Concat { axis } | Self::Softmax { axis } => write!(f, " axis{axis}"),
            Self::Transpose { perm } => write!(f, " {perm:?}"),
            Self::ChannelShuffle { groups } => write!(f, " g{groups}"),
            Self::Pad { padding: p, value } => write!(f, " p{},{},{},{} v{value}", p[0], p[1], p[2], p[3]),
            _ => Ok(()),
        }
    }
}
