//! HiRA on an embedding, compared with Python's peft (`fixtures/hira/make.py`).

use burn_peft::{PeftModel, files};

use crate::conformance::{
    adapted, assert_close, assert_gradients, assert_losses, base, expected, fixtures, logits,
};

#[test]
fn on_an_embedding_as_in_peft() {
    let case = fixtures().join("hira/embedding");
    let model = adapted(&case);
    let close = |what: &str, found: Vec<f32>| {
        assert_close(&case, what, &found, &expected(&case, what));
    };
    close("logits", logits(&model, &case));
    let without = model.disable_adapter(|model| logits(model, &case));
    close("base_logits", without);
    assert_gradients(&case);
    assert_losses(&case);

    let folder = tempfile::tempdir().unwrap();
    model.save_pretrained(folder.path()).unwrap();
    for name in [files::CONFIG_NAME, files::WEIGHTS_NAME] {
        let bytes = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
        assert!(bytes(folder.path()) == bytes(&case), "{name} differs");
    }
    // A new adapter changes nothing at first.
    let config = files::read_config(&case).unwrap();
    let new = PeftModel::new(base(), "default", config).unwrap();
    close("base_logits", logits(&new, &case));
}
