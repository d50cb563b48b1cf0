//! cuBLASLt: one matrix product, y = x times the transpose of the weights, with its algorithms.
//!
//! Our matrices lie row by row, cuBLASLt's column by column. A row-major matrix of r rows and c columns is, seen column
//! by column, its transpose: c rows and r columns, with leading dimension c. With x (batch x in), weights W (out x in)
//! and y (batch x out), all row-major, y = x W^T. Seen column by column, memory holds x^T (in x batch), W^T (in x out)
//! and y^T (out x batch), and
//!
//! ```text
//! y^T = W x^T = (W^T)^T x^T
//! ```
//!
//! so that A is the memory of W, transposed, B the memory of x, as it is, and D the memory of y: m = out, n = batch,
//! k = in, with leading dimensions in, in and out. The bias of an epilogue is added along the rows of D, which are the
//! outputs (cuBLAS Library, `cublasLtEpilogue_t`).

use std::ffi::{CStr, c_void};
use std::rc::Rc;

use cudarc::cublaslt::sys::{
    self, cublasComputeType_t as ComputeType, cublasLtMatmulAlgoConfigAttributes_t as Config,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t as Preference,
    cublasStatus_t as Status, cudaDataType as DataType,
};

use crate::plan::Precision;

use super::driver::Stream;
use super::failure::{Failure, Severity};

/// Most algorithms that are asked for.
const MOST: usize = 16;

/// `CUBLAS_OP_T` of cublas_api.h, which the binding of cuBLASLt leaves out.
const TRANSPOSED: i32 = 1;

/// cuBLASLt. Copies are the same handle.
#[derive(Debug, Clone)]
pub(super) struct CublasLt(Rc<Handle>);

#[derive(Debug)]
struct Handle(sys::cublasLtHandle_t);

/// Sizes of a product: `rows` of `features` numbers each to as many rows of `outputs` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Product {
    pub(super) rows: usize,
    pub(super) features: usize,
    pub(super) outputs: usize,
    pub(super) precision: Precision,
    /// Whether the epilogue adds a bias, in the precision's storage type: the type of D, as cuBLASLt asks for.
    pub(super) bias: bool,
}

/// Sizes of a matrix as cuBLASLt sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    rows: u64,
    columns: u64,
    leading: i64,
}

/// A product with an algorithm.
#[derive(Debug)]
pub(super) struct Matmul {
    shared: Rc<Shared>,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
    name: String,
}

/// What all algorithms of a product use.
#[derive(Debug)]
struct Shared {
    blas: CublasLt,
    description: Description,
    weights: Matrix,
    x: Matrix,
    y: Matrix,
    bias: bool,
}

/// Addresses of a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct MatmulPlaces {
    pub(super) x: u64,
    pub(super) weights: u64,
    pub(super) y: u64,
    pub(super) bias: Option<u64>,
    pub(super) workspace: u64,
}

impl CublasLt {
    pub(super) fn open(stream: &Stream) -> Result<Self, Failure> {
        let mut handle = std::ptr::null_mut();
        let _context = stream.gpu();
        // SAFETY: the stream holds the device's context, which is current; it writes one handle, destroyed in `drop`.
        done("cublasLtCreate", unsafe { sys::cublasLtCreate(&raw mut handle) })?;
        Ok(Self(Rc::new(Handle(handle))))
    }

    /// The algorithms that cuBLASLt proposes, best first, which need no more than `workspace` bytes.
    pub(super) fn products(&self, product: Product, workspace: usize) -> Result<Vec<Matmul>, Failure> {
        let [weights, x, y] = product.shapes();
        let stored = data_type(product.precision);
        let shared = Rc::new(Shared {
            blas: self.clone(),
            description: Description::new(&product)?,
            weights: Matrix::new(weights, stored)?,
            x: Matrix::new(x, stored)?,
            y: Matrix::new(y, stored)?,
            bias: product.bias,
        });
        let preferences = Preferences::new(workspace, product.reductions())?;
        let proposals = shared.proposals(&preferences)?;
        let working = proposals.into_iter().filter(|proposal| proposal.state as u32 == 0);
        let matmul = |proposal: sys::cublasLtMatmulHeuristicResult_t| {
            let shared = Rc::clone(&shared);
            let name = Setting::read(&proposal.algo).name();
            Matmul { shared, algorithm: proposal.algo, workspace: proposal.workspaceSize, name }
        };
        Ok(working.map(matmul).collect())
    }
}

impl Product {
    /// The matrices A, B and D: weights, input and output.
    fn shapes(&self) -> [Shape; 3] {
        // As `cublasLtMatrixLayoutCreate` wants the sizes; memory has none that do not fit.
        let (rows, features, outputs) = (self.rows as u64, self.features as u64, self.outputs as u64);
        let seen = |rows: u64, columns: u64| Shape { rows, columns, leading: rows.max(1).cast_signed() };
        [seen(features, outputs), seen(features, rows), seen(outputs, rows)]
    }

    /// How sums are kept: in f32 always.
    const fn arithmetic(&self) -> ComputeType {
        match self.precision {
            Precision::Tf32 => ComputeType::CUBLAS_COMPUTE_32F_FAST_TF32,
            Precision::F32 | Precision::F16 | Precision::Bf16 => ComputeType::CUBLAS_COMPUTE_32F,
        }
    }

    /// Where the parts of a divided sum may meet (`cublasLtReductionScheme_t`): for 16-bit outputs in f32 alone, not in
    /// the output's own type.
    const fn reductions(&self) -> u32 {
        match self.precision.bytes() {
            2 => sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32,
            _ => sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_MASK as u32,
        }
    }
}

const fn data_type(precision: Precision) -> DataType {
    match precision {
        Precision::F32 | Precision::Tf32 => DataType::CUDA_R_32F,
        Precision::F16 => DataType::CUDA_R_16F,
        Precision::Bf16 => DataType::CUDA_R_16BF,
    }
}

impl Shared {
    fn proposals(
        &self,
        preferences: &Preferences,
    ) -> Result<Vec<sys::cublasLtMatmulHeuristicResult_t>, Failure> {
        let empty = sys::cublasLtMatmulHeuristicResult_t {
            algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: Status::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let mut found = vec![empty; MOST];
        let mut count = 0;
        let most = i32::try_from(MOST).expect("a small number");
        // SAFETY: handle and descriptors live; there are places for `most` results.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.blas.0.0,
                self.description.0,
                self.weights.0,
                self.x.0,
                self.y.0,
                self.y.0,
                preferences.0,
                most,
                found.as_mut_ptr(),
                &raw mut count,
            )
        };
        done("cublasLtMatmulAlgoGetHeuristic", status)?;
        found.truncate(usize::try_from(count).unwrap_or(0));
        Ok(found)
    }
}

impl Matmul {
    /// The algorithm's number and settings.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of scratch memory.
    pub(super) fn workspace(&self) -> usize {
        self.workspace
    }

    /// Queues one product.
    pub(super) fn queue(&self, stream: &Stream, places: &MatmulPlaces) -> Result<(), Failure> {
        let Shared { blas, description, weights, x, y, bias } = self.shared.as_ref();
        if *bias {
            let missing = || Failure::refused("cublasLtMatmul", "the epilogue's bias has no address");
            let address = places.bias.ok_or_else(missing)? as *const c_void;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address)?;
        }
        let (one, zero) = (1.0_f32, 0.0_f32);
        let at = |address: u64| address as *mut c_void;
        // SAFETY: handle and descriptors live; whoever queues holds memory of the matrices' sizes at the addresses, and
        // the scratch memory of `workspace`; C is D, which is not read with the factor 0; factors are read at once.
        let status = unsafe {
            sys::cublasLtMatmul(
                blas.0.0,
                description.0,
                std::ptr::from_ref(&one).cast(),
                at(places.weights),
                weights.0,
                at(places.x),
                x.0,
                std::ptr::from_ref(&zero).cast(),
                at(places.y),
                y.0,
                at(places.y),
                y.0,
                &raw const self.algorithm,
                at(places.workspace),
                self.workspace,
                stream.raw().cast(),
            )
        };
        done("cublasLtMatmul", status)
    }
}

/// What is computed.
#[derive(Debug)]
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn new(product: &Product) -> Result<Self, Failure> {
        let mut handle = std::ptr::null_mut();
        let (arithmetic, factors) = (product.arithmetic(), DataType::CUDA_R_32F);
        // SAFETY: it writes one handle, destroyed in `drop`.
        let status = unsafe { sys::cublasLtMatmulDescCreate(&raw mut handle, arithmetic, factors) };
        done("cublasLtMatmulDescCreate", status)?;
        let description = Self(handle);
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSED)?;
        if product.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        }
        Ok(description)
    }

    /// `value` is of the type that the manual names for the attribute.
    fn set<T: Copy>(&self, attribute: Attribute, value: &T) -> Result<(), Failure> {
        let (place, bytes) = (std::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the descriptor lives; the value is copied.
        let status = unsafe { sys::cublasLtMatmulDescSetAttribute(self.0, attribute, place, bytes) };
        done("cublasLtMatmulDescSetAttribute", status)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created in `new` and destroyed once.
        let _ = unsafe { sys::cublasLtMatmulDescDestroy(self.0) };
    }
}

/// How a matrix lies.
#[derive(Debug)]
struct Matrix(sys::cublasLtMatrixLayout_t);

impl Matrix {
    fn new(Shape { rows, columns, leading }: Shape, stored: DataType) -> Result<Self, Failure> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: it writes one handle, destroyed in `drop`.
        let status =
            unsafe { sys::cublasLtMatrixLayoutCreate(&raw mut handle, stored, rows, columns, leading) };
        done("cublasLtMatrixLayoutCreate", status)?;
        Ok(Self(handle))
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        // SAFETY: created in `new` and destroyed once.
        let _ = unsafe { sys::cublasLtMatrixLayoutDestroy(self.0) };
    }
}

/// What an algorithm may use.
#[derive(Debug)]
struct Preferences(sys::cublasLtMatmulPreference_t);

impl Preferences {
    fn new(workspace: usize, reductions: u32) -> Result<Self, Failure> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: it writes one handle, destroyed in `drop`.
        done("cublasLtMatmulPreferenceCreate", unsafe {
            sys::cublasLtMatmulPreferenceCreate(&raw mut handle)
        })?;
        let preferences = Self(handle);
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(workspace as u64))?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions)?;
        Ok(preferences)
    }

    /// As [`Description::set`].
    fn set<T: Copy>(&self, attribute: Preference, value: &T) -> Result<(), Failure> {
        let (place, bytes) = (std::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the descriptor lives; the value is copied.
        let status = unsafe { sys::cublasLtMatmulPreferenceSetAttribute(self.0, attribute, place, bytes) };
        done("cublasLtMatmulPreferenceSetAttribute", status)
    }
}

impl Drop for Preferences {
    fn drop(&mut self) {
        // SAFETY: created in `new` and destroyed once.
        let _ = unsafe { sys::cublasLtMatmulPreferenceDestroy(self.0) };
    }
}

/// What an algorithm is set to; none where the library does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    id: Option<u32>,
    tile: Option<u32>,
    stages: Option<u32>,
    parts: Option<u32>,
    /// Settings that only tell algorithms of one kind apart: what they are called, and their values.
    others: [(&'static str, Option<u32>); 5],
}

impl Setting {
    fn read(algorithm: &sys::cublasLtMatmulAlgo_t) -> Self {
        let of_size = |config: Config, bytes: usize| {
            let (mut value, mut written) = (0_u32, 0);
            // SAFETY: it writes at most `bytes` bytes, and how many it wrote.
            let status = unsafe {
                sys::cublasLtMatmulAlgoConfigGetAttribute(
                    algorithm,
                    config,
                    (&raw mut value).cast(),
                    bytes,
                    &raw mut written,
                )
            };
            done("cublasLtMatmulAlgoConfigGetAttribute", status).is_ok().then_some(value)
        };
        let read = |config| of_size(config, size_of::<u32>());
        // These two have 16 bits (cublasLtMatmulAlgoConfigAttributes_t).
        let half = |config| of_size(config, size_of::<u16>());
        Self {
            id: read(Config::CUBLASLT_ALGO_CONFIG_ID),
            tile: read(Config::CUBLASLT_ALGO_CONFIG_TILE_ID),
            stages: read(Config::CUBLASLT_ALGO_CONFIG_STAGES_ID),
            parts: read(Config::CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
            others: [
                ("swizzle", read(Config::CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING)),
                ("option", read(Config::CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION)),
                ("reduction", read(Config::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME)),
                ("inner", half(Config::CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID)),
                ("cluster", half(Config::CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID)),
            ],
        }
    }

    /// `cublaslt algo 21 tile 128x128 stages #15 splitk 4`.
    fn name(self) -> String {
        let mut name = "cublaslt".to_string();
        let mut add = |what: &str, value: Option<String>| {
            if let Some(value) = value {
                name += &format!(" {what} {value}");
            }
        };
        let number = |value: Option<u32>| value.filter(|&value| value > 0).map(|value| value.to_string());
        add("algo", self.id.map(|id| id.to_string()));
        add("tile", self.tile.filter(|&tile| tile > 0).map(tile_name));
        // The number that the library gives a number of stages.
        add("stages", number(self.stages).map(|id| format!("#{id}")));
        add("splitk", number(self.parts.filter(|&parts| parts > 1)));
        for (what, value) in self.others {
            add(what, number(value));
        }
        name
    }
}

/// Rows and columns of a tile by its number in `cublasLtMatmulTile_t`, whose first ones are not in order of size.
fn tile_name(id: u32) -> String {
    const TILES: [[u16; 2]; 36] = [
        [0, 0],
        [8, 8],
        [8, 16],
        [16, 8],
        [8, 32],
        [16, 16],
        [32, 8],
        [8, 64],
        [16, 32],
        [32, 16],
        [64, 8],
        [32, 32],
        [32, 64],
        [64, 32],
        [32, 128],
        [64, 64],
        [128, 32],
        [64, 128],
        [128, 64],
        [64, 256],
        [128, 128],
        [256, 64],
        [64, 512],
        [128, 256],
        [256, 128],
        [512, 64],
        [64, 96],
        [96, 64],
        [96, 128],
        [128, 160],
        [160, 128],
        [192, 128],
        [128, 192],
        [128, 96],
        [32, 256],
        [256, 32],
    ];
    match TILES.get(id as usize) {
        Some([rows, columns]) => format!("{rows}x{columns}"),
        None => format!("#{id}"),
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created in `open` and destroyed once, after everything made with it.
        let _ = unsafe { sys::cublasLtDestroy(self.0) };
    }
}

/// What a function of cuBLASLt returned, as a result.
fn done(function: &'static str, status: Status) -> Result<(), Failure> {
    // As a number from here on: newer versions may have statuses that the binding's list lacks.
    let code = status as u32;
    if code == 0 {
        return Ok(());
    }
    // SAFETY: it takes any status and returns a static text that ends with a zero.
    let text = unsafe { sys::cublasLtGetStatusString(status) };
    let text = if text.is_null() {
        "no words for it".to_string()
    } else {
        // SAFETY: as above; it is not null.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    Err(Failure { severity: severity(code), function, name: format!("status {code}"), text })
}

/// What a caller can do (cuBLAS Library, `cublasStatus_t`): 3 is ALLOC_FAILED, 7 INVALID_VALUE, 8 ARCH_MISMATCH and 15
/// NOT_SUPPORTED.
const fn severity(code: u32) -> Severity {
    match code {
        3 => Severity::OutOfMemory,
        7 | 8 | 15 => Severity::Refused,
        _ => Severity::Broken,
    }
}

/// Makes every descriptor of a product, none of which needs a GPU.
#[cfg(test)]
pub(super) fn descriptors_of(precision: Precision) -> Result<(), Failure> {
    for bias in [false, true] {
        let product = Product { rows: 4, features: 24, outputs: 16, precision, bias };
        Description::new(&product)?;
        for shape in product.shapes() {
            Matrix::new(shape, data_type(precision))?;
        }
        Preferences::new(1 << 20, product.reductions())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(precision: Precision) -> Product {
        Product { rows: 3, features: 5, outputs: 7, precision, bias: false }
    }

    #[test]
    fn row_major_matrices_are_seen_as_their_transposes() {
        let [weights, x, y] = product(Precision::F32).shapes();
        assert_eq!(weights, Shape { rows: 5, columns: 7, leading: 5 });
        assert_eq!(x, Shape { rows: 5, columns: 3, leading: 5 });
        assert_eq!(y, Shape { rows: 7, columns: 3, leading: 7 });
    }

    /// op(A) B = D by the definition of `cublasLtMatmul`, over the memory of our row-major matrices.
    #[test]
    fn the_column_major_product_is_the_row_major_one() {
        let weights = [1, 2, 3, 4, 5, 6]; // 2 outputs x 3 features
        let x = [1, 0, -1, 2, 1, 0]; // 2 rows x 3 features
        let [a, b, d] =
            Product { rows: 2, features: 3, outputs: 2, precision: Precision::F32, bias: false }.shapes();
        let at = |values: &[i64], shape: Shape, row: u64, column: u64| {
            values[usize::try_from(row + column * shape.leading.unsigned_abs()).unwrap()]
        };
        let mut y = [0; 4];
        for row in 0..d.rows {
            for column in 0..d.columns {
                let terms = (0..b.rows).map(|k| at(&weights, a, k, row) * at(&x, b, k, column));
                y[usize::try_from(row + column * d.leading.unsigned_abs()).unwrap()] = terms.sum::<i64>();
            }
        }
        // Row 0: 1-3, 4-6; row 1: 2+2, 8+5.
        assert_eq!(y, [-2, -2, 4, 13]);
    }

    #[test]
    fn sums_stay_in_f32() {
        use ComputeType::{CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
        assert_eq!(product(Precision::F32).arithmetic(), CUBLAS_COMPUTE_32F);
        assert_eq!(product(Precision::Tf32).arithmetic(), CUBLAS_COMPUTE_32F_FAST_TF32);
        assert_eq!(product(Precision::Bf16).arithmetic(), CUBLAS_COMPUTE_32F);
        // COMPUTE_TYPE is 2; 1 and 4 would add up in the output's type.
        assert_eq!(product(Precision::F16).reductions(), 2);
    }

    #[test]
    fn an_algorithm_is_named_by_its_settings() {
        let others = [
            ("swizzle", Some(1)),
            ("option", None),
            ("reduction", Some(2)),
            ("inner", Some(0)),
            ("cluster", None),
        ];
        let setting = Setting { id: Some(21), tile: Some(20), stages: Some(15), parts: Some(4), others };
        assert_eq!(setting.name(), "cublaslt algo 21 tile 128x128 stages #15 splitk 4 swizzle 1 reduction 2");
        let others = others.map(|(what, _)| (what, None));
        let plain = Setting { id: Some(66), tile: Some(400), stages: None, parts: Some(1), others };
        assert_eq!(plain.name(), "cublaslt algo 66 tile #400");
    }
}
