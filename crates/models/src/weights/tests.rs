use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use burn::tensor::TensorData;

use super::*;
use crate::ModelError;
use crate::hub::ModelFiles;

fn data(values: &[f32]) -> TensorData {
    TensorData::new(values.to_vec(), [values.len()])
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn open(dir: &Path) -> Result<Checkpoint> {
    Checkpoint::open(&ModelFiles::folder(dir))
}

fn open_error(bytes: &[u8]) -> String {
    let dir = folder();
    fs::write(dir.path().join(WEIGHTS), bytes).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains(WEIGHTS), "{error}");
    error
}

/// A safetensors file with this header, which may be wrong.
fn with_header(header: &str, tensors: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + tensors, 0);
    bytes
}

fn entry(shape: &str, start: usize, end: usize) -> String {
    format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

#[test]
fn a_folder_is_written_and_read_back() {
    let dir = folder();
    let target = dir.path().join("new/model");
    let tensors = [
        (
            "b".to_string(),
            TensorData::new(vec![1.0f32, 2.0, 3.0, 4.0], [2, 2]),
        ),
        ("a".to_string(), data(&[-0.5])),
    ];
    save_model(&target, "{}\n", tensors, &SaveOptions::default()).unwrap();

    let mut files: Vec<_> = fs::read_dir(&target)
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    files.sort();
    assert_eq!(files, [CONFIG, WEIGHTS]);
    let checkpoint = open(&target).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(checkpoint.shape("b"), Some(&[2, 2][..]));
    assert_eq!(
        checkpoint.tensor("b").unwrap().try_to_vec::<f32>().unwrap(),
        [1.0, 2.0, 3.0, 4.0]
    );
    let missing = checkpoint.tensor("c").unwrap_err().to_string();
    assert!(missing.contains("no tensor `c`"), "{missing}");

    // The bytes that safetensors' own writer makes.
    let views = [
        ("b", vec![2, 2], [1.0f32, 2.0, 3.0, 4.0].as_slice()),
        ("a", vec![1], &[-0.5]),
    ];
    let bytes = views
        .each_ref()
        .map(|v| v.2.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    let views = views.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (
            *name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let expected = ::safetensors::serialize(views, Some(format)).unwrap();
    assert_eq!(fs::read(target.join(WEIGHTS)).unwrap(), expected);
}

#[test]
fn narrow_types_are_widened_and_others_refused() {
    let dir = folder();
    // 1.5, -2.0 and the smallest positive number of each type.
    let f16: Vec<u8> = [0x3e00u16, 0xc000, 0x0001]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let bf16: Vec<u8> = [0x3fc0u16, 0xc000, 0x0001]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let views = [
        ("f16", TensorView::new(Dtype::F16, vec![3], &f16).unwrap()),
        (
            "bf16",
            TensorView::new(Dtype::BF16, vec![3], &bf16).unwrap(),
        ),
        ("mask", TensorView::new(Dtype::U8, vec![6], &f16).unwrap()),
    ];
    fs::write(
        dir.path().join(WEIGHTS),
        ::safetensors::serialize(views, None).unwrap(),
    )
    .unwrap();
    let checkpoint = open(dir.path()).unwrap();
    let values = |name| {
        checkpoint
            .tensor(name)
            .unwrap()
            .try_to_vec::<f32>()
            .unwrap()
    };
    assert_eq!(values("f16"), [1.5, -2.0, 2f32.powi(-24)]);
    assert_eq!(values("bf16"), [1.5, -2.0, f32::from_bits(0x0001_0000)]);
    let error = checkpoint.tensor("mask").unwrap_err().to_string();
    assert!(error.contains("`mask` is U8"), "{error}");
}

#[test]
fn a_matrix_is_read_in_pieces_and_transposed() {
    let dir = folder();
    let (rows, columns) = (2 * ROWS + 3, 5);
    let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let views = [
        (
            "matrix",
            TensorView::new(Dtype::F32, vec![rows, columns], &bytes).unwrap(),
        ),
        (
            "vector",
            TensorView::new(Dtype::F32, vec![rows * columns], &bytes).unwrap(),
        ),
        (
            "empty",
            TensorView::new(Dtype::F32, vec![0, 4], &[]).unwrap(),
        ),
    ];
    let bytes = ::safetensors::serialize(views, None).unwrap();
    fs::write(dir.path().join(WEIGHTS), bytes).unwrap();
    let checkpoint = open(dir.path()).unwrap();
    let mut pieces = Vec::new();
    checkpoint
        .read("vector", 100, &mut |piece| pieces.push(piece.to_vec()))
        .unwrap();
    assert_eq!(pieces.concat(), values);
    assert_eq!(pieces.iter().map(Vec::len).max(), Some(100));
    let transposed = |name| checkpoint.tensor_in(name, FloatDType::F32, true);
    let expected = burn_peft::tensor_file::transpose(checkpoint.tensor("matrix").unwrap());
    assert_eq!(transposed("matrix").unwrap(), expected);
    for dtype in [FloatDType::F16, FloatDType::BF16] {
        let narrow = checkpoint.tensor_in("matrix", dtype, true).unwrap();
        assert_eq!(narrow, expected.clone().convert_dtype(dtype.into()));
        let vector = checkpoint.tensor("vector").unwrap();
        let narrow = checkpoint.tensor_in("vector", dtype, false).unwrap();
        assert_eq!(narrow, vector.convert_dtype(dtype.into()));
    }
    assert_eq!(transposed("empty").unwrap().shape().to_vec(), [4, 0]);
    let error = transposed("vector").unwrap_err().to_string();
    assert!(error.contains("`vector` is [655], not a matrix"), "{error}");
}

#[test]
fn shards_are_found_through_their_index() {
    let dir = folder();
    for (file, name, value) in [("one", "a", 1.0f32), ("two", "b", 2.0)] {
        let bytes = value.to_le_bytes();
        let view = TensorView::new(Dtype::F32, vec![1], &bytes).unwrap();
        let path = dir.path().join(format!("{file}.safetensors"));
        fs::write(
            path,
            ::safetensors::serialize([(name, view)], None).unwrap(),
        )
        .unwrap();
    }
    let open_with = |map: &str| {
        fs::write(
            dir.path().join(INDEX),
            format!(r#"{{"weight_map": {map}}}"#),
        )
        .unwrap();
        open(dir.path())
    };
    let checkpoint = open_with(r#"{"a": "one.safetensors", "b": "two.safetensors"}"#).unwrap();
    assert_eq!(
        checkpoint.tensor("b").unwrap().try_to_vec::<f32>().unwrap(),
        [2.0]
    );

    for (map, message) in [
        ("3", "is not an index"),
        (r#"{"a": "../one.safetensors"}"#, "outside its folder"),
        (r#"{"a": "three.safetensors"}"#, "has no three.safetensors"),
        (r#"{"b": "one.safetensors"}"#, "has no tensor `b`"),
    ] {
        let error = open_with(map).unwrap_err().to_string();
        assert!(error.contains(message), "{map}: {error}");
    }
}

#[test]
fn a_file_that_lies_is_refused() {
    let whole = with_header(&format!(r#"{{"a":{}}}"#, entry("[2]", 0, 8)), 8);
    let truncated = open_error(&whole[..whole.len() - 3]);
    let (expected, got) = (whole.len(), whole.len() - 3);
    let numbers = format!("describes {expected} bytes, the file has {got}");
    assert!(truncated.contains(&numbers), "{truncated}");

    let cases = [
        (vec![], "the file has 0 bytes"),
        (vec![0; 4], "the file has 4 bytes"),
        (whole[..20].to_vec(), "claims a header of"),
        (
            vec![0xff; 64],
            "claims a header of 18446744073709551615 bytes and has 64",
        ),
        (with_header("{\"a\": ", 0), "invalid JSON"),
        (
            with_header(&format!(r#"{{"a":{}}}"#, entry("[2, 3]", 0, 8)), 8),
            "tensor `a` of type F32 and shape [2, 3]",
        ),
        (
            with_header(&format!(r#"{{"a":{}}}"#, entry("[2]", 4, 12)), 12),
            "offset for tensor `a`",
        ),
        (
            with_header(
                &format!(r#"{{"a":{}}}"#, entry("[4294967296, 4294967296]", 0, 8)),
                8,
            ),
            "overflow",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid".to_vec(),
            "git lfs pull",
        ),
    ];
    for (bytes, message) in cases {
        let error = open_error(&bytes);
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn a_folder_without_weights_says_what_it_is() {
    let dir = folder();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("has no model.safetensors"), "{error}");
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is an adapter"), "{error}");
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let dir = folder();
    let target = dir.path().join("deep/model");
    let save = |tensors: Vec<NamedTensor>| {
        save_model(&target, "{}", tensors, &SaveOptions::default())
            .unwrap_err()
            .to_string()
    };
    let good = || NamedTensor::from(("a".to_string(), data(&[1.0])));

    let error = save(vec![
        good(),
        ("b".to_string(), data(&[0.0, f32::NAN])).into(),
    ]);
    assert!(
        error.contains("`b` is not finite: value 1 is NaN"),
        "{error}"
    );
    let error = save(vec![good(), good()]);
    assert!(error.contains("`a` would be written twice"), "{error}");
    let error = save(vec![NamedTensor::new("a", [3], || Ok(data(&[1.0])))]);
    assert!(error.contains("`a` has shape [1], not [3]"), "{error}");
    let lost = || Err(ModelError::file("a", "gone"));
    assert_eq!(save(vec![NamedTensor::new("a", [3], lost)]), "a: gone");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    // Existing files are unchanged.
    save_model(&target, "old", [good()], &SaveOptions::default()).unwrap();
    let before = fs::read(target.join(WEIGHTS)).unwrap();
    save(vec![("b".to_string(), data(&[f32::INFINITY])).into()]);
    assert_eq!(fs::read(target.join(WEIGHTS)).unwrap(), before);
    assert_eq!(fs::read_to_string(target.join(CONFIG)).unwrap(), "old");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 2);

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(save_model(&file, "{}", [good()], &SaveOptions::default()).is_err());
    assert!(file.exists());
}

/// Linux has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_the_name() {
    let mut full = File::options().write(true).open("/dev/full").unwrap();
    let tensors = vec![NamedTensor::from(("a".to_string(), data(&[1.0])))];
    let error = safetensors::write(
        &mut full,
        Path::new(WEIGHTS),
        tensors,
        &SaveOptions::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("model.safetensors: could not be written: No space left"),
        "{error}"
    );
}

#[test]
fn no_model_is_made_of_blocks_that_the_weights_lack() {
    use burn::tensor::Device;

    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/conformance/base-gpt2"
    );
    let fixture = Path::new(fixture);
    let dir = folder();
    let config = fs::read_to_string(fixture.join("config.json")).unwrap();
    let config = config.replace("\"n_layer\": 2", "\"n_layer\": 1000");
    fs::write(dir.path().join("config.json"), config).unwrap();
    fs::copy(fixture.join(WEIGHTS), dir.path().join(WEIGHTS)).unwrap();
    let files = ModelFiles::folder(dir.path());
    let error = crate::AutoModel::from_files(&files, &Device::flex())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has no tensor transformer.h.999.ln_1.weight"),
        "{error}"
    );
}
