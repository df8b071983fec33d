//! Output layers that share the weight of the input embedding: what is trained for one acts on both
//! (`ensure_weight_tying`), or the output layer gets its own weight.

use std::sync::Arc;

use burn::tensor::{FloatDType, Tensor};

use crate::config::{CommonConfig, TargetModules};
use crate::target::{ends_with_name, full_match};
use crate::{Adaptable, BaseModel, Method, Path, PeftError, PeftModel, Result, Slot, layers};

/// The paths of the input embedding and the output layer, if they share a weight.
pub(crate) fn tied_layers(model: &impl Adaptable) -> Option<(String, String)> {
    let output = model.output_embedding();
    let layers = layers(model);
    let is_tied = !output.is_empty() && !layers.iter().any(|layer| layer.is_output);
    let input = layers.into_iter().find(|layer| layer.is_input && is_tied)?;
    Some((input.path, output.to_string()))
}

/// Calls `ask` with the slot at `path`.
pub(crate) fn at_slot<T>(
    model: &impl Adaptable,
    path: &str,
    ask: impl Fn(&dyn Slot) -> T,
) -> Option<T> {
    let mut found = None;
    model.visit_slots(&mut Path::default(), &mut |other, slot| {
        if other == path {
            found = Some(ask(slot));
        }
    });
    found
}

/// The weight `[vocab, d]` of an output layer that shares the input embedding's.
pub(crate) fn tied_weight(model: &impl Adaptable) -> Option<Tensor<2>> {
    let (input, _) = tied_layers(model)?;
    at_slot(model, &input, |slot| slot.tied_weight())
}

/// Gives a tied output layer its own weight, `tied` `[vocab, d]`, if the input embedding now has
/// another one.
///
/// # Errors
/// If the model cannot untie its output layer.
pub(crate) fn keep_output(model: &mut impl Adaptable, tied: Tensor<2>) -> Result<()> {
    let Some((input, output)) = tied_layers(model) else {
        return Ok(());
    };
    let tied = tied.cast(FloatDType::F32);
    let differs = at_slot(model, &input, |slot| {
        let differs = slot.weight().not_equal(tied.clone()).any();
        differs.into_scalar::<bool>()
    });
    if differs != Some(true) {
        return Ok(());
    }
    if !model.untie_output() {
        return Err(PeftError::Tied {
            problem: format!(
                ", which the adapter changes for {input} alone, and the model cannot untie \
                 them: ensure_weight_tying = true in training keeps them equal"
            ),
            output,
            input,
        });
    }
    tracing::warn!(
        "{output} shares the weight of {input}, which the adapter changes for {input} alone: in \
         the merged model {output} has a weight of its own (tie_word_embeddings = false)"
    );
    model.visit_slots_mut(&mut Path::default(), &mut |path, slot| {
        if path == output {
            slot.set_weight(tied.clone().transpose());
        }
    });
    Ok(())
}

/// Gives the output layer of a model with merged adapters its own weight, if it is tied to the
/// input embedding and what is merged there is not meant for it. A file of the weights needs both.
///
/// # Errors
/// If the model cannot untie its output layer.
pub fn untie_merged(model: &mut impl Adaptable) -> Result<()> {
    let merged = tied_layers(model).and_then(|(input, _)| {
        at_slot(model, &input, |slot| {
            (!slot.state().merged.is_empty()).then(|| slot.tied_weight())
        })
    });
    merged
        .flatten()
        .map_or(Ok(()), |tied| keep_output(model, tied))
}

impl<M: BaseModel> PeftModel<M> {
    /// The paths of the input embedding and the output layer, if they share a weight.
    pub(crate) fn tied_layers(&self) -> Option<(String, String)> {
        tied_layers(&self.base_model)
    }

    /// The configuration as it is attached to a model with a tied output layer, following PEFT
    /// (peft/tuners/tuners_utils.py, `_check_tied_modules`): with `ensure_weight_tying`, the input
    /// embedding replaces the output layer; without it, a named output layer is untied, and the
    /// original model is returned as well.
    ///
    /// PEFT recognises embeddings by the names `embed_tokens` and `lm_head`, so it never ties
    /// GPT-2's `wte`; here the model says which its embeddings are.
    ///
    /// # Errors
    /// If a pattern is not a regular expression, or the model cannot untie its output layer.
    pub(crate) fn tie_or_untie(
        &mut self,
        config: Arc<dyn Method>,
    ) -> Result<(Arc<dyn Method>, Option<M>)> {
        let Some((input, output)) = self.tied_layers() else {
            if config.ensure_weight_tying() {
                tracing::warn!(
                    "ensure_weight_tying = true has no effect: the model's output layer is not tied"
                );
            }
            return Ok((config, None));
        };
        let common = config.common();
        let head = (saves(common, &output), targets(common, &output)?);
        if config.ensure_weight_tying() {
            let common = match (head, saves(common, &input), targets(common, &input)?) {
                ((true, _), ..) | (_, true, _) => saved_in_place(common, &output, &input),
                ((_, true), ..) | (.., true) => targeted_in_place(common, &output, &input)?,
                _ => {
                    tracing::warn!(
                        "ensure_weight_tying = true has no effect: neither {input} nor {output} \
                         is in target_modules or modules_to_save"
                    );
                    return Ok((config, None));
                }
            };
            return Ok((config.with_common(common), None));
        }
        if head == (false, false) {
            return Ok((config, None));
        }
        let before = self.base_model.clone();
        if !self.base_model.untie_output() {
            return Err(PeftError::Tied {
                problem: format!(
                    " and cannot be adapted by itself: name {input}, or set \
                     ensure_weight_tying = true"
                ),
                output,
                input,
            });
        }
        tracing::warn!(
            "{output} shares the weight of {input} and is adapted by itself: it is untied from \
             here on, in a merged model too; ensure_weight_tying = true keeps it tied"
        );
        Ok((config, Some(before)))
    }
}

/// Whether `modules_to_save` names this layer.
fn saves(common: &CommonConfig, path: &str) -> bool {
    let mut names = common.modules_to_save.iter().flatten();
    names.any(|name| !name.is_empty() && path.ends_with(name))
}

/// Whether `target_modules` names this layer.
fn targets(common: &CommonConfig, path: &str) -> Result<bool> {
    match &common.target_modules {
        None => Ok(false),
        Some(all) if all.is_all_linear() => Ok(false),
        Some(TargetModules::Pattern(pattern)) => full_match("target_modules", pattern, path),
        Some(TargetModules::List(names)) => Ok(names.iter().any(|name| ends_with_name(path, name))),
    }
}

fn saved_in_place(common: &CommonConfig, output: &str, input: &str) -> CommonConfig {
    let mut common = common.clone();
    let is_saved = saves(&common, input);
    let names = common.modules_to_save.get_or_insert_default();
    names.retain(|name| !output.ends_with(name));
    if !is_saved {
        names.push(input.to_string());
    }
    common
}

fn targeted_in_place(common: &CommonConfig, output: &str, input: &str) -> Result<CommonConfig> {
    let mut common = common.clone();
    let is_targeted = targets(&common, input)?;
    match &mut common.target_modules {
        Some(TargetModules::List(names)) => {
            names.retain(|name| !ends_with_name(output, name));
            if !is_targeted {
                names.push(input.to_string());
            }
        }
        Some(TargetModules::Pattern(pattern)) if !is_targeted => {
            *pattern = format!("(?:{pattern}|^{}$)", input.replace('.', r"\."));
        }
        _ => {}
    }
    Ok(common)
}
