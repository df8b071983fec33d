//! EVA (arXiv 2410.07170): `lora_A` starts as the directions in which a layer's inputs vary most,
//! and layers whose inputs vary more get higher ranks.

mod pca;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Int, Tensor, TensorData};

use self::pca::IncrementalPca;
use crate::config::{EvaConfig, Fields, InitLoraWeights, TargetModules};
use crate::slot::Probe;
use crate::{BaseModel, LoraConfig, PeftError, PeftModel, Result};

/// The maximum number of batches before giving up.
const MAX_BATCHES: usize = 2000;

/// A layer whose inputs are decomposed.
struct Layer {
    path: String,
    rank: usize,
    alpha: f64,
    /// The largest rank it can get.
    most: usize,
    /// The layer with the same inputs that is decomposed in its place.
    source: usize,
}

impl<M: BaseModel> PeftModel<M> {
    /// Initialises the adapter `adapter_name`, a LoRA with `init_lora_weights = "eva"`, from the
    /// inputs of its layers on `batches`, which are repeated until the directions no longer change
    /// (PEFT's function of this name). `forward` runs a batch through the model; `positions`
    /// returns the indices `[n]` of the rows of a layer's input `[tokens, d_in]` that count.
    ///
    /// Layers get ranks by the variance that their directions explain; the ranks are stored in
    /// `rank_pattern` and `alpha_pattern`. Layers of rank zero are no longer adapted. Embeddings
    /// stay as they are.
    ///
    /// # Errors
    /// If there are no batches, if the layers cannot be decomposed by them, or if the adapter is
    /// not such a LoRA.
    pub fn initialize_lora_eva_weights<B>(
        &mut self,
        adapter_name: &str,
        batches: &[B],
        forward: impl Fn(&Self, &B),
        positions: impl Fn(&B) -> Tensor<1, Int>,
    ) -> Result<()> {
        let refuse = |reason: String| Err(PeftError::Eva { problem: reason });
        let json = self.config(adapter_name)?.to_json();
        let config = LoraConfig::from_fields(Fields::new(json, adapter_name))?;
        if config.init_lora_weights != InitLoraWeights::Eva {
            return refuse(format!(
                "the adapter `{adapter_name}` has init_lora_weights = {}: EVA sets those \
                 with \"eva\"",
                config.init_lora_weights.to_json()
            ));
        }
        if batches.is_empty() {
            return refuse("EVA needs batches to see the inputs of layers, and got none".into());
        }
        if self.active.len() != 1 || self.active[0] != adapter_name {
            return refuse(format!(
                "EVA sets the one active adapter: make `{adapter_name}` that with set_adapter"
            ));
        }
        let eva = config.eva_config.clone().unwrap_or_default();
        let mut layers = self.eva_layers(adapter_name, &config, &eva)?;
        // The decompositions start with the same random numbers every time, as in PEFT.
        burn_peft_kernels::cpu_device().seed(42);
        let seen = self.eva_inputs(&layers, batches, &forward);
        for index in 0..layers.len() {
            let same = (0..index).find(|&other| seen[other] == seen[index]);
            layers[index].source = same.map_or(index, |other| layers[other].source);
        }
        for index in 0..layers.len() {
            let source = layers[index].source;
            let group = layers.iter().filter(|layer| layer.source == source);
            layers[index].most = group.map(|layer| layer.most).max().unwrap_or(0);
        }
        let (ranks, found) = self.eva_directions(&layers, &eva, batches, &forward, &positions)?;
        self.set_eva(adapter_name, config, &eva, &layers, &ranks, &found)
    }

    fn eva_layers(
        &self,
        adapter_name: &str,
        config: &LoraConfig,
        eva: &EvaConfig,
    ) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        let mut result = Ok(());
        self.visit_slots(|path, slot| {
            let adapted = slot.adapter(adapter_name);
            if result.is_err() || !adapted.is_some_and(|a| a.tensors().contains("lora_A")) {
                return;
            }
            result = config.rank(path).and_then(|rank| {
                let most = (rank as f64 * eva.rho).round_ties_even() as usize;
                let [d_in, _] = slot.dims();
                if most > d_in {
                    return Err(PeftError::unfit(
                        path,
                        format!(
                            "EVA may give {path} the rank {most} (its rank times eva_config.rho = \
                             {}), more than its {d_in} inputs have directions: set a smaller r or \
                             rho",
                            eva.rho
                        ),
                    ));
                }
                layers.push(Layer {
                    path: path.to_string(),
                    rank,
                    alpha: config.alpha(path)?,
                    most,
                    source: layers.len(),
                });
                Ok(())
            });
        });
        result.map(|()| layers)
    }

    /// Runs `inside` with probes at some layers.
    fn probed(&self, probes: &HashMap<String, Probe>, inside: impl FnOnce(&Self)) {
        let mut probed = self.clone();
        probed.visit_slots_mut(|path, slot| slot.state_mut().probe = probes.get(path).cloned());
        inside(&probed);
    }

    /// A hash of each layer's inputs on the first batch.
    fn eva_inputs<B>(
        &self,
        layers: &[Layer],
        batches: &[B],
        forward: &impl Fn(&Self, &B),
    ) -> Vec<u64> {
        let hashes = Arc::new(Mutex::new(vec![0; layers.len()]));
        let probe = |index: usize| {
            let hashes = Arc::clone(&hashes);
            Probe::new(move |input| {
                let mut hasher = DefaultHasher::new();
                input.into_data().bytes().hash(&mut hasher);
                lock(&hashes)[index] = hasher.finish();
            })
        };
        let probes = layers.iter().enumerate();
        let probes = probes.map(|(index, layer)| (layer.path.clone(), probe(index)));
        self.probed(&probes.collect(), |model| forward(model, &batches[0]));
        let hashes = lock(&hashes);
        hashes.clone()
    }

    /// The ranks of all layers, and the decompositions of those that are a source.
    fn eva_directions<B>(
        &self,
        layers: &[Layer],
        eva: &EvaConfig,
        batches: &[B],
        forward: &impl Fn(&Self, &B),
        positions: &impl Fn(&B) -> Tensor<1, Int>,
    ) -> Result<(Vec<usize>, Vec<IncrementalPca>)> {
        let new = |layer: &Layer| IncrementalPca::new(layer.most, eva.tau);
        let found: Arc<Mutex<Vec<IncrementalPca>>> =
            Arc::new(Mutex::new(layers.iter().map(new).collect()));
        let error = Arc::new(Mutex::new(None));
        let mut ranks: Vec<usize> = layers.iter().map(|layer| layer.most).collect();
        for batch in batches.iter().cycle().take(MAX_BATCHES) {
            let mut open = HashMap::new();
            for (index, layer) in layers.iter().enumerate() {
                let found_now = lock(&found);
                if layer.source != index || found_now[index].has_converged(ranks[index]) {
                    continue;
                }
                let (found, error) = (Arc::clone(&found), Arc::clone(&error));
                let chosen = positions(batch);
                let probe = Probe::new(move |input| {
                    let rows = input.without_autodiff().select(0, chosen.clone());
                    let mut found = lock(&found);
                    if let Err(problem) = found[index].partial_fit(rows) {
                        *lock(&error) = Some(problem);
                    }
                });
                open.insert(layer.path.clone(), probe);
            }
            if open.is_empty() {
                drop(open);
                let found = lock(&found);
                return Ok((ranks, found.clone()));
            }
            self.probed(&open, |model| forward(model, batch));
            if let Some(problem) = lock(&error).take() {
                return Err(problem);
            }
            let found = lock(&found);
            let mut sources = layers.iter().map(|layer| &found[layer.source]);
            if sources.all(IncrementalPca::is_fitted) {
                ranks = distribution(layers, &found);
            }
        }
        Err(PeftError::Eva {
            problem: format!(
                "EVA has not come to rest after {MAX_BATCHES} batches: give it larger \
                 ones, or lower eva_config.tau = {} (use_label_mask = false makes more \
                 rows of a batch)",
                eva.tau
            ),
        })
    }

    /// Attaches the adapter again, with the ranks and directions.
    fn set_eva(
        &mut self,
        adapter_name: &str,
        mut config: LoraConfig,
        eva: &EvaConfig,
        layers: &[Layer],
        ranks: &[usize],
        found: &[IncrementalPca],
    ) -> Result<()> {
        config.rank_pattern.clear();
        config.alpha_pattern.clear();
        let mut targets = Vec::new();
        let mut values = HashMap::new();
        for (layer, &rank) in layers.iter().zip(ranks) {
            if rank == 0 {
                continue;
            }
            let mut alpha = layer.alpha;
            if rank != layer.rank && eva.adjust_scaling_factors {
                alpha *= rank as f64 / layer.rank as f64;
            }
            if rank != config.r {
                config.rank_pattern.insert(layer.path.clone(), rank);
            }
            if alpha != config.lora_alpha {
                config.alpha_pattern.insert(layer.path.clone(), alpha);
            }
            targets.push(layer.path.clone());
            values.insert(
                layer.path.clone(),
                found[layer.source].directions(rank, eva.whiten),
            );
        }
        // Embeddings stay adapted.
        self.visit_slots(|path, slot| {
            if let Some(adapter) = slot.adapter(adapter_name)
                && adapter.tensors().contains("lora_embedding_A")
            {
                targets.push(path.to_string());
            }
        });
        config.common.target_modules = Some(TargetModules::List(targets));
        config.common.exclude_modules = None;
        config.common.layers_to_transform = None;
        config.common.layers_pattern = None;
        let before = self.clone();
        self.delete_adapter(adapter_name)?;
        let added = self.add_adapter(adapter_name, Arc::new(config));
        if let Err(error) = added.and_then(|()| self.set_adapter(&[adapter_name])) {
            *self = before;
            return Err(error);
        }
        self.visit_slots_mut(|path, slot| {
            let adapter = slot.adapter_mut(adapter_name);
            for tensor in adapter.into_iter().flat_map(|adapter| &mut adapter.tensors) {
                if tensor.spec.name == "lora_A"
                    && let Some(values) = values.remove(path)
                {
                    let data = TensorData::new(values, tensor.param().dims());
                    tensor.param_mut().set_data(data, false);
                }
            }
        });
        Ok(())
    }
}

/// Selects as many directions as all ranks add up to: those that explain the most of a layer's
/// variance.
fn distribution(layers: &[Layer], found: &[IncrementalPca]) -> Vec<usize> {
    let budget: usize = layers.iter().map(|layer| layer.rank).sum();
    let mut shares: Vec<(f64, usize)> = Vec::new();
    // PEFT's order: sources first, then the layers with the same inputs.
    let sources = |is: bool| (0..layers.len()).filter(move |&i| (layers[i].source == i) == is);
    for index in sources(true).chain(sources(false)) {
        let ratios = &found[layers[index].source].explained_variance_ratio;
        shares.extend(
            ratios
                .iter()
                .take(layers[index].most)
                .map(|ratio| (*ratio, index)),
        );
    }
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut ranks = vec![0; layers.len()];
    for (_, index) in shares.into_iter().take(budget) {
        ranks[index] += 1;
    }
    // The source's decomposition is the one that is continued, so it has the highest rank.
    for index in sources(false) {
        let source = layers[index].source;
        if ranks[source] < ranks[index] {
            ranks.swap(source, index);
        }
    }
    ranks
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
