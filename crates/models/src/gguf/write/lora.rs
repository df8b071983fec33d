//! Writing a LoRA adapter by itself as a GGUF file, as llama.cpp's `convert_lora_to_gguf.py` does.

use std::collections::BTreeMap;
use std::path::Path;

use burn_peft::config::Bias;
use burn_peft::{Adaptable, LayerKind, PeftModel, Slot};
use burn_peft_kernels::Lora;

use super::file::{Head, Writer};
use super::model::counted;
use super::out_type::fitting;
use super::{Contents, KeyValue, OutType, Plan, Planned};
use crate::AutoModel;
use crate::error::{ModelError, Result};
use crate::weights::Weights;

/// An adapter to be written by itself.
pub struct GgufAdapter<'a> {
    /// The model with it as the only active adapter.
    pub model: &'a PeftModel<AutoModel>,
    /// The weights of the model without it.
    pub weights: &'a dyn Weights,
    /// Its folder, for messages.
    pub folder: &'a Path,
    /// Keys in addition to those that describe it, such as a name.
    pub keys: Vec<(String, KeyValue)>,
}

/// What the file contains for one layer.
struct Pair {
    path: String,
    name: String,
    lora: Lora,
    /// The rows of B.
    rows: Vec<usize>,
}

/// What llama.cpp divides by each layer's rank to get its scaling.
const ALPHA: &str = "adapter.lora.alpha";

/// Whatever cannot be merged into weights cannot be written either.
const NOT_MERGED: [&str; 4] = ["BOTTLENECK", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING"];

impl GgufAdapter<'_> {
    /// Writes the file completely or not at all; errors call it `shown`.
    ///
    /// # Errors
    /// If such files cannot express something, by name; if the disk fails.
    pub fn write(self, path: &Path, shown: &Path, out_type: OutType) -> Result<Contents> {
        let of = out_type.of_adapter().ok_or_else(|| {
            let reason = format!("is written in f32, f16, bf16 or q8_0, not in {out_type}");
            ModelError::file(self.folder, reason)
        })?;
        let base = self.model.get_base_model();
        let (names, shapes) = self.names_and_shapes(base);
        let read = |name: &str| {
            let data = self
                .weights
                .tensor(names.get(name).map_or(name, String::as_str))?;
            Ok(data.try_into_vec().expect("it is in float32"))
        };
        let plan = Plan::new(&base.config_map(), &shapes, &read)?;
        let pairs = self.pairs(&plan)?;
        let first = pairs.first().map(|pair| alpha(&pair.lora) as f32);
        let alpha = first.ok_or_else(|| self.refused("it acts on no layer"))?;
        // llama.cpp treats an alpha of 0 as missing, and multiplies by 1.
        if pairs.iter().all(|pair| pair.lora.scaling == 0.0) {
            return Err(self.refused("lora_alpha = 0"));
        }
        let mut heads = Vec::new();
        for pair in &pairs {
            for (end, tensor) in [("lora_a", &pair.lora.a), ("lora_b", &pair.lora.b)] {
                let shape = tensor.dims().to_vec();
                heads.push(Head {
                    name: format!("{}.{end}", pair.name),
                    of: fitting(of, shape[1]),
                    shape,
                });
            }
        }
        let architecture = plan.architecture.name;
        let mut keys = vec![
            (
                "general.architecture".to_string(),
                KeyValue::Text(architecture.into()),
            ),
            ("general.type".to_string(), KeyValue::Text("adapter".into())),
            ("adapter.type".to_string(), KeyValue::Text("lora".into())),
            (ALPHA.to_string(), KeyValue::F32(alpha)),
            (
                "general.file_type".to_string(),
                KeyValue::U32(out_type.file_type()),
            ),
            ("general.quantization_version".to_string(), KeyValue::U32(2)),
        ];
        keys.extend(self.keys.iter().cloned());
        let mut writer = Writer::new(path, shown, &keys, &heads)?;
        for pair in &pairs {
            let factor = self.factor(pair, alpha)?;
            let values = |tensor: &burn::tensor::Tensor<2>| -> Vec<f32> {
                let data = tensor.clone().into_data().convert::<f32>();
                data.try_into_vec().expect("it is in float32")
            };
            let (a, b) = (values(&pair.lora.a), values(&pair.lora.b));
            let rank = pair.lora.b.dims()[1];
            let rows = pair.rows.iter().flat_map(|row| &b[row * rank..][..rank]);
            let b: Vec<f32> = rows.map(|value| value * factor).collect();
            writer.add(&format!("{}.lora_a", pair.name), &a)?;
            writer.add(&format!("{}.lora_b", pair.name), &b)?;
        }
        Ok(Contents {
            bytes: writer.finish()?,
            types: counted(&heads),
            notes: Vec::new(),
        })
    }

    /// The model's weights under transformers' names, with their names in its files and their
    /// shapes.
    fn names_and_shapes(
        &self,
        base: &AutoModel,
    ) -> (BTreeMap<String, String>, BTreeMap<String, Vec<usize>>) {
        let (mut names, mut shapes) = (BTreeMap::new(), BTreeMap::new());
        base.visit_slots(&mut burn_peft::Path::default(), &mut |path, slot| {
            slot.visit_base(&mut |parameter, _| {
                let name = format!("{path}.{parameter}");
                let found = base.name_in(self.weights, &name);
                if let Some((found, shape)) =
                    found.and_then(|found| Some((found.clone(), self.weights.shape(&found)?)))
                {
                    let written = base.written_name(&name);
                    shapes.insert(written.clone(), shape.to_vec());
                    names.insert(written, found);
                }
            });
        });
        (names, shapes)
    }

    fn refused(&self, problem: impl std::fmt::Display) -> ModelError {
        ModelError::file(
            self.folder,
            format!(
                "{problem}: a GGUF file of an adapter cannot hold that; export without --lora, which \
                 merges it into the model"
            ),
        )
    }

    /// The factor of B, if the scaling differs from what llama.cpp computes from `alpha`.
    fn factor(&self, pair: &Pair, alpha_of_all: f32) -> Result<f32> {
        let factor = alpha(&pair.lora) / f64::from(alpha_of_all);
        // The file stores the alpha as float32; a power of two changes no other bit.
        if (factor - 1.0).abs() < 1e-6 {
            return Ok(1.0);
        }
        if factor.log2().fract() == 0.0 {
            return Ok(factor as f32);
        }
        let rank = pair.lora.b.dims()[1];
        Err(self.refused(format!(
            "alpha_pattern or rank_pattern: {} has the scaling {}, which is an alpha of {} by its rank, \
             {rank}, and others have {alpha_of_all}",
            pair.path,
            pair.lora.scaling,
            alpha(&pair.lora)
        )))
    }

    /// The layers that the adapter acts on, in the order of the model.
    fn pairs(&self, plan: &Plan) -> Result<Vec<Pair>> {
        let active = self.model.active_adapters();
        let [adapter] = active else {
            return Err(self.refused("several adapters"));
        };
        let config = self.model.config(adapter)?;
        if config.peft_type() != "LORA" {
            let of = config.peft_type();
            let problem = format!("peft_type = {of:?}");
            if NOT_MERGED.contains(&of) {
                let reason =
                    format!("{problem}: no GGUF file can hold that, neither alone nor merged");
                return Err(ModelError::file(self.folder, reason));
            }
            return Err(self.refused(problem));
        }
        if config.bias() != Bias::None {
            let bias = &config.to_json()["bias"];
            return Err(self.refused(format!("bias = {bias}")));
        }
        let mut pairs = Ok(Vec::new());
        let base = self.model.get_base_model();
        base.visit_slots(&mut burn_peft::Path::default(), &mut |path, slot| {
            if let Ok(found) = &mut pairs
                && slot.is_adapted()
            {
                match self.pair(plan, adapter, path, slot) {
                    Ok(pair) => found.push(pair),
                    Err(error) => pairs = Err(error),
                }
            }
        });
        pairs
    }

    fn pair(&self, plan: &Plan, adapter: &str, path: &str, slot: &dyn Slot) -> Result<Pair> {
        if slot.has_saved(adapter) {
            return Err(self.refused(format!("modules_to_save: {path}")));
        }
        if slot.has_own_weight() {
            return Err(self.refused(format!(
                "init_lora_weights or save_embedding_layers: it changes the model's own weight of {path} \
                 (`peft convert --initial` makes it one for the untouched model)"
            )));
        }
        let base = self.model.get_base_model();
        if slot.kind() == LayerKind::Embedding {
            let mut has_head = false;
            base.visit_slots(&mut burn_peft::Path::default(), &mut |path, _| {
                has_head |= path == base.output_embedding();
            });
            let tied = if has_head {
                ""
            } else {
                ", which is the output layer too"
            };
            return Err(self.refused(format!("an adapter of the embedding {path}{tied}")));
        }
        let found = slot.adapter(adapter).and_then(|adapter| adapter.low_rank());
        let lora = found.ok_or_else(|| {
            let config = self.model.config(adapter).map(|config| config.to_json());
            let config = config.unwrap_or_default();
            let is_on = |key: &&str| config.get(*key).and_then(|on| on.as_bool()) == Some(true);
            let key = ["use_dora", "lora_bias"].into_iter().find(is_on);
            match key {
                Some(key) => self.refused(format!("{key} = true")),
                None => self.refused(format!("what it does at {path}")),
            }
        })?;
        let weight = base.written_name(&format!("{path}.weight"));
        let planned = plan.tensor(&weight);
        let planned = planned.filter(|planned| planned.from.len() == 1);
        let Planned { name, shape, .. } = planned.ok_or_else(|| {
            // A tied output layer that was adapted by itself.
            self.refused(format!(
                "{path} has no weight of its own in the model's file"
            ))
        })?;
        let rows = (0..shape[0]).map(|place| planned.map_or(place, |planned| planned.row(place)));
        Ok(Pair {
            path: path.to_string(),
            name: name.clone(),
            lora,
            rows: rows.collect(),
        })
    }
}

/// What llama.cpp divides by the rank.
fn alpha(lora: &Lora) -> f64 {
    lora.scaling * lora.b.dims()[1] as f64
}
