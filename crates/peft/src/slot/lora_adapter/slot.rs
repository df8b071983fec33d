//! The decorated layer as a slot.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use burn_peft_kernels::{BlockWeight, Int8Weight, Quantization, QuantizedWeight};

use super::weight::{check_finite, is_finite};
use super::{FreshIds, LoraAdapter};
use crate::slot::StoredWeight;
use crate::slot::kept::Kept;
use crate::slot::kept_param::KeptParam;
use crate::{
    Adapter, AnyParam, BaseLayer, ConvInfo, LayerKind, PeftError, Result, Slot, SlotState, Tree,
};

impl<M: BaseLayer> Slot for LoraAdapter<M> {
    fn kind(&self) -> LayerKind {
        self.base_layer.kind()
    }

    fn dims(&self) -> [usize; 2] {
        self.base_layer.dims()
    }

    fn convolution(&self) -> Option<ConvInfo> {
        self.base_layer.convolution()
    }

    fn has_bias(&self) -> bool {
        let mut has_bias = false;
        self.visit_base(&mut |name, _| has_bias |= name == "bias");
        has_bias
    }

    fn device(&self) -> Device {
        self.base_layer.device()
    }

    fn weight(&self) -> Tensor<2> {
        match &self.kept {
            Some(weight) => weight.dequantize(&self.base_layer.device()),
            None => self.base_layer.weight(),
        }
    }

    fn tied_weight(&self) -> Tensor<2> {
        self.active_tied_weight().dense(&self.base_layer.device())
    }

    fn unmerged_weight(&self) -> Tensor<2> {
        match &self.state.unmerged {
            Some((StoredWeight::Dense(weight), _)) => (**weight).clone(),
            Some((StoredWeight::Kept(weight), _)) => weight.dequantize(&self.device()),
            None => Slot::weight(self),
        }
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.base_layer.bias()
    }

    fn set_weight(&mut self, weight: Tensor<2>) {
        self.set_merged(weight, self.base_layer.bias());
    }

    fn quantize(&mut self, path: &str, quantization: Quantization) -> Result<()> {
        if !self.kind().is_linear() || !self.can_be_quantized() {
            return Ok(());
        }
        let weight = Slot::weight(self);
        check_finite(path, &weight)?;
        let quantized = QuantizedWeight::new(weight.clone().without_autodiff(), quantization);
        self.keep(Kept::Quantized(Box::new(if weight.is_autodiff() {
            quantized.train()
        } else {
            quantized
        })));
        Ok(())
    }

    fn quantized(&self) -> Option<&QuantizedWeight> {
        match &self.kept {
            Some(Kept::Quantized(weight)) => Some(weight),
            _ => None,
        }
    }

    fn quantize_int8(&mut self, path: &str) -> Result<()> {
        let kind = self.kind();
        if !(kind.is_linear() || kind == LayerKind::Embedding) || !self.can_be_quantized() {
            return Ok(());
        }
        let taken = self.blocks().and_then(Int8Weight::from_blocks);
        if let Some(taken) = taken.filter(Int8Weight::is_finite) {
            self.keep(Kept::Int8(taken));
            return Ok(());
        }
        let weight = Slot::weight(self).without_autodiff();
        check_finite(path, &weight)?;
        self.keep(Kept::Int8(if kind == LayerKind::Embedding {
            Int8Weight::table(&weight)
        } else {
            Int8Weight::new(&weight)
        }));
        Ok(())
    }

    fn int8(&self) -> Option<&Int8Weight> {
        match &self.kept {
            Some(Kept::Int8(weight)) => Some(weight),
            _ => None,
        }
    }

    fn set_blocks(&mut self, weight: BlockWeight) {
        let (kind, dims) = (self.kind(), self.dims());
        assert!(
            kind.is_linear() || kind == LayerKind::Embedding,
            "{kind} has no weight in blocks"
        );
        assert_eq!(weight.dims(), dims, "shape of a weight in blocks");
        self.keep(Kept::Blocks(weight));
    }

    fn blocks(&self) -> Option<&BlockWeight> {
        match &self.kept {
            Some(Kept::Blocks(weight)) => Some(weight),
            _ => None,
        }
    }

    fn make_dense(&mut self) {
        if self.kept.is_some() {
            let weight = Slot::weight(self);
            self.kept = None;
            self.base_layer.set_weight(weight, self.base_layer.bias());
        }
    }

    fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    fn adapters_mut(&mut self) -> &mut Vec<Adapter> {
        &mut self.adapters
    }

    fn state(&self) -> &SlotState {
        &self.state
    }

    fn state_mut(&mut self) -> &mut SlotState {
        &mut self.state
    }

    fn visit_base(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam)) {
        let kept = self.kept.as_ref();
        self.base_layer
            .visit_params(&mut |name, param| match kept.filter(|_| name == "weight") {
                Some(weight) => visit(name, &KeptParam::new(param.id(), weight.clone())),
                None => visit(name, param),
            });
    }

    fn visit_base_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam)) {
        let kept = &mut self.kept;
        self.base_layer.visit_params_mut(&mut |name, param| {
            let Some(weight) = kept.take_if(|_| name == "weight") else {
                return visit(name, param);
            };
            let mut stand_in = KeptParam::new(param.id(), weight);
            visit(name, &mut stand_in);
            match stand_in.dense {
                Some(dense) => {
                    param.set_data(dense.data, dense.transposed);
                    param.set_requires_grad(dense.requires_grad);
                }
                None => *kept = Some(stand_in.weight),
            }
        });
    }

    fn visit_saved(&self, adapter: &str, visit: &mut dyn FnMut(&str, &dyn AnyParam)) {
        if let Some(layer) = self.saved(adapter) {
            layer.visit_params(visit);
        }
    }

    fn visit_saved_mut(&mut self, adapter: &str, visit: &mut dyn FnMut(&str, &mut dyn AnyParam)) {
        if let Some(index) = self.state.saved.iter().position(|name| name == adapter) {
            self.modules_to_save[index].visit_params_mut(visit);
        }
    }

    fn add_saved(&mut self, adapter: &str) {
        let mut copy = self.base_layer.clone();
        if self.kept_of(&self.base_layer).is_some() {
            copy.set_weight(Slot::weight(self), copy.bias());
        }
        // The copy gets new identities: the optimizer keeps its state by identity.
        let mut fresh = FreshIds;
        copy = copy.map(&mut fresh);
        copy.visit_params_mut(&mut |_, param| param.set_requires_grad(true));
        self.modules_to_save.push(copy);
        self.state.saved.push(adapter.to_string());
    }

    fn remove(&mut self, adapter: &str) {
        self.adapters.retain(|other| other.name != adapter);
        self.restore_from(adapter);
        if let Some(index) = self.state.saved.iter().position(|name| name == adapter) {
            self.modules_to_save.remove(index);
            self.state.saved.remove(index);
        }
        self.state.tied.retain(|name| name != adapter);
        self.state.stored.retain(|(name, _)| name != adapter);
        self.state.active.retain(|name| name != adapter);
    }

    fn merge(&mut self, path: &str, safe_merge: bool) -> Result<()> {
        let names = self.state.active.iter();
        let to_merge: Vec<&Adapter> = names
            .filter(|name| !self.state.merged.contains(name))
            .flat_map(|name| self.named(name))
            .collect();
        let cannot = |adapter: &Adapter| PeftError::NotMergeable {
            adapter: adapter.name.clone(),
            problem: format!(
                " into {path}: what it does there is not a change of the layer's weight"
            ),
        };
        match to_merge.first() {
            None => return Ok(()),
            Some(adapter) if self.kind() == LayerKind::Module => return Err(cannot(adapter)),
            Some(_) => {}
        }
        let (mut weight, mut bias) = (self.weight(), self.base_layer.bias());
        let original = (self.to_put_back(), bias.clone());
        let mut merged = Vec::new();
        for adapter in to_merge {
            let after = adapter.method.merge(&adapter.tensors(), weight, bias);
            (weight, bias) = after.ok_or_else(|| cannot(adapter))?;
            merged.push(adapter.name.clone());
        }
        let are_finite = |weight: &Tensor<2>, bias: &Option<Tensor<1>>| {
            is_finite(weight) && bias.as_ref().is_none_or(is_finite)
        };
        if safe_merge && !are_finite(&weight, &bias) {
            let broken = if are_finite(&self.weight(), &self.base_layer.bias()) {
                "adapter"
            } else {
                "model, which has them already,"
            };
            return Err(PeftError::NotFinite {
                problem: format!(
                    "NaN or infinite values in the weight of {path} merged with {}: the \
                     {broken} is broken, nothing was merged",
                    merged.join(", ")
                ),
            });
        }
        self.set_merged(weight, bias);
        self.state.unmerged.get_or_insert(original);
        self.state.merged.extend(merged);
        Ok(())
    }

    fn merged(&self, path: &str) -> Result<Vec<(String, TensorData)>> {
        // A clone shares the tensors.
        let mut alone = self.clone();
        alone.make_dense();
        alone.merge(path, true)?;
        alone.unload(true);
        let mut parameters = Vec::new();
        alone.base_layer.visit_params(&mut |name, param| {
            parameters.push((name.to_string(), param.to_data()));
        });
        Ok(parameters)
    }

    fn unmerge(&mut self) {
        match self.state.unmerged.take() {
            Some((StoredWeight::Dense(weight), bias)) => self.base_layer.set_weight(*weight, bias),
            Some((StoredWeight::Kept(weight), bias)) => {
                self.keep(weight);
                self.set_bias(bias);
            }
            None => (),
        }
        self.state.merged.clear();
    }

    fn unload(&mut self, keep_saved: bool) {
        if keep_saved && !self.state.saved.is_empty() {
            self.base_layer = self.active_layer().clone();
            self.kept = None;
        }
        // A merged adapter has put back the part of the weight that it took. One that is removed
        // without having been merged gives it back here.
        if self.state.merged.is_empty()
            && let Some((_, weight)) = self.state.originals.first()
        {
            self.set_weight(weight.clone());
        }
        self.adapters.clear();
        self.modules_to_save.clear();
        self.state = SlotState {
            path: std::mem::take(&mut self.state.path),
            ..SlotState::default()
        };
    }

    fn describe(&self) -> Tree {
        self.describe_around(self.base_layer.describe())
    }
}
