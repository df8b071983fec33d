//! Bottleneck adapters against plain PyTorch (`fixtures/bottleneck/make.py`).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn_peft::PeftModel;
use burn_peft_train::{TrainingArguments, adamw};

use crate::conformance::{
    assert_close, base, batch, expected, fixtures, logits, mean_loss, without_dropout,
};

#[test]
fn logits_gradients_losses_and_files() {
    for kind in ["houlsby", "pfeiffer", "parallel"] {
        let case = fixtures().join("bottleneck").join(kind);
        let mut model = PeftModel::from_pretrained(base(), &case, true).unwrap();
        assert_close(
            &case,
            "logits",
            &logits(&model, &case),
            &expected(&case, "logits"),
        );
        let without = model.disable_adapter(|model| logits(model, &case));
        assert_close(
            &case,
            "base_logits",
            &without,
            &expected(&case, "base_logits"),
        );
        let error = model.merge_adapter(false).unwrap_err().to_string();
        assert!(error.contains("cannot be merged into"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        model.save_pretrained(folder.path()).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            let bytes = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
            assert!(
                bytes(folder.path()) == bytes(&case),
                "{kind}/{name} differs"
            );
        }

        let mut model = without_dropout(model.train());
        let batch = batch(&case);
        let arguments = TrainingArguments {
            weight_decay: 0.01,
            ..Default::default()
        };
        let mut optimizer = adamw(&arguments);
        let mut losses = Vec::new();
        for step in 0..8 {
            let loss = mean_loss(&model, &batch);
            losses.push(loss.clone().inner().into_scalar::<f32>());
            let gradients = loss.backward();
            if step == 0 {
                for (key, gradient) in model.adapter_gradients("default", &gradients) {
                    let gradient = gradient.expect(&key).try_to_vec::<f32>().unwrap();
                    let wanted = expected(&case, &format!("grad.{key}"));
                    assert_close(&case, &key, &gradient, &wanted);
                }
            }
            let gradients = GradientsParams::from_grads(gradients, &model);
            model.check_gradients(&gradients).unwrap();
            model = optimizer.step(1e-3, model, gradients);
        }
        assert_close(
            &case,
            "train_losses",
            &losses,
            &expected(&case, "train_losses"),
        );
    }
}
