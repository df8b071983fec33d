//! Products on devices in software, each with one kernel: it takes longer there to compile and time
//! others than the fastest of them saves. So sums have the same order in every run, and products of
//! the same weight share a kernel, however many rows they have.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use burn_cubecl::cubecl::ir::AddressType;
use burn_cubecl::kernel::matmul::{MatmulStrategy, init_matmul_output, matmul};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cubek::matmul::definition::{
    MatmulElems, MatmulGlobalElems, MatmulProblem, MatmulSetupError, MatmulVectorSizes,
};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::matmul::multi_level::components::tile::TileMatmulKind;
use cubek::matmul::multi_level::routines::{UnitTilingBlueprintOptions, infer_blueprint_unit};
use cubek::matmul::routine::BlueprintStrategy;
use cubek::std::{InputBinding, MatrixLayout};

use super::launch::{contiguous, elem};

/// The number of rows that kernels are made for: some tiles are not full, so any other will do.
const ROWS: usize = 1023;
/// With fewer rows CubeCL's choice is another one.
const FEWEST: usize = 16;
/// How many values are read and written at once.
const VECTOR: usize = 4;

fn rows_and_columns(x: &Shape, weight: &Shape) -> Shape {
    Shape::new([x.dims::<2>()[0], weight.dims::<2>()[1]])
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait InferredProduct: Backend {
    /// `x · weight`, which have the same type.
    #[fusion(dtype = x, shape = rows_and_columns(x, weight))]
    fn inferred_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl InferredProduct for CubeBackend {
    fn inferred_product(x: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let (dtype, x) = (x.dtype(), contiguous(x));
        if let Some(layout) = layout(&x, &weight) {
            let output = init_matmul_output(&x, &weight, dtype);
            if launch(&x, &weight, &output, layout).is_ok() {
                return output;
            }
        }
        matmul(x.clone(), weight.clone(), None, MatmulStrategy::Cube, dtype)
            .or_else(|_| matmul(x, weight, None, MatmulStrategy::default(), dtype))
            .expect("CubeCL has a kernel for every product")
    }
}

/// How the weight lies, if a product with it can have the kernel for any number of rows.
fn layout(x: &CubeTensor, weight: &CubeTensor) -> Option<MatrixLayout> {
    let ([rows, k], [_, columns]) = (x.shape().dims(), weight.shape().dims());
    let fits = rows >= FEWEST && k.is_multiple_of(VECTOR) && columns.is_multiple_of(VECTOR);
    let strides = weight.meta.strides();
    let layout = match (strides[0], strides[1]) {
        (row, 1) if row == columns => MatrixLayout::RowMajor,
        (1, column) if column == k => MatrixLayout::ColMajor,
        _ => return None,
    };
    fits.then_some(layout)
}

fn launch(
    x: &CubeTensor,
    weight: &CubeTensor,
    output: &CubeTensor,
    layout: MatrixLayout,
) -> Result<(), MatmulSetupError> {
    let ([_, k], [_, columns]) = (x.shape().dims(), weight.shape().dims());
    let (client, dtype) = (&x.client, elem(x));
    let types = MatmulGlobalElems {
        lhs: dtype,
        rhs: dtype,
        out: dtype,
    };
    let rows = MatrixLayout::RowMajor;
    let none = || Shape::new::<0>([]);
    let problem = MatmulProblem::from_parameters(
        ROWS,
        columns,
        k,
        none(),
        none(),
        rows,
        layout,
        rows,
        None,
        None,
        types.clone(),
        AddressType::default(),
    );
    let vectors = MatmulVectorSizes {
        lhs: VECTOR,
        rhs: VECTOR,
        out: VECTOR,
    };
    let options = UnitTilingBlueprintOptions {
        swizzle: TileMatmulKind::Register.should_swizzle(client),
        ..Default::default()
    };
    let plane = match client.properties().hardware.plane_size_min {
        0 => 32,
        units => units,
    };
    let (blueprint, _) =
        infer_blueprint_unit(client, &problem, plane, false, &vectors, options, &types);
    let strategy = Strategy::SimpleUnit(BlueprintStrategy::Forced(blueprint));
    launch_ref(
        &strategy.into(),
        client,
        InputBinding::new(x.clone().binding(), dtype),
        InputBinding::new(weight.clone().binding(), dtype),
        output.clone().binding(),
        &mut MatmulElems::from_globals(&types),
    )
}

/// Whether this is the processor, used through a graphics API.
#[cfg(feature = "wgpu")]
pub(crate) fn is_software(device: &CubeDevice) -> bool {
    use burn::backend::WgpuDeviceKind;
    matches!(device, CubeDevice::Wgpu(device) if device.kind == WgpuDeviceKind::Cpu)
}

#[cfg(not(feature = "wgpu"))]
pub(crate) fn is_software(_: &CubeDevice) -> bool {
    false
}
