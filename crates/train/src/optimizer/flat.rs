//! AdamW for all parameters at once, on GPUs. Its moments lie one after the other in two tensors,
//! so a step takes only a few launches, however many parameters there are. Everywhere else Burn's
//! optimizers make the steps; they also take over where this one cannot continue.

use std::collections::HashSet;
use std::fmt;

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_pack::{Bytes, Reader, Scalar, Tensor as Packed, Writer};
use burn_peft::parameters::NamedParameter;
use burn_peft::{AdamW, GpuTensor, Moments, Rate, starts};

use crate::configuration::arguments::TrainingArguments;
use crate::optimizer::name::OptimizerName;
use crate::optimizer::parameter_groups::{decays, ids};

/// The most values in one group: 128 MiB, which every device can bind as one buffer.
const MOST: usize = 1 << 25;

/// AdamW for all parameters at once.
pub(crate) struct Flat {
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    weight_decay: f64,
    /// The parameters without weight decay.
    undecayed: HashSet<ParamId>,
    groups: Vec<Group>,
    /// Whether Burn's optimizer makes the steps from now on.
    gave_up: bool,
}

/// Parameters whose moments lie in the same two tensors.
struct Group {
    members: Vec<Member>,
    moments: Moments,
    /// The number of steps done.
    time: usize,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    id: ParamId,
    path: String,
    shape: Vec<usize>,
}

impl Member {
    fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Flat {
    /// `None` unless the optimizer is AdamW.
    pub fn new(arguments: &TrainingArguments, parameters: &[NamedParameter]) -> Option<Self> {
        let is_adamw = matches!(
            arguments.optim,
            OptimizerName::AdamwTorch | OptimizerName::Lorafa
        );
        let undecayed = ids(parameters, |parameter| !decays(&parameter.name));
        is_adamw.then(|| Self {
            beta_1: arguments.adam_beta1 as f32,
            beta_2: arguments.adam_beta2 as f32,
            epsilon: arguments.adam_epsilon as f32,
            weight_decay: f64::from(arguments.weight_decay as f32),
            undecayed: undecayed.into_iter().collect(),
            groups: Vec::new(),
            gave_up: false,
        })
    }

    /// Makes one step. With `clipping`, the gradients, whose norm is `clipping.0` (`[1]`), are
    /// clipped to a norm of `clipping.1`. The first step begins with the moments that `optimizer`
    /// has.
    ///
    /// # Errors
    /// Returns the module unchanged if `optimizer` has to make this step and all later ones; it
    /// then has all the moments.
    pub fn step<M: Module>(
        &mut self,
        optimizer: &mut ModuleOptimizer,
        rates: &ModuleLearningRate,
        module: M,
        gradients: &GradientsParams,
        clipping: Option<&(Tensor<1>, f64)>,
    ) -> Result<M, M> {
        if self.gave_up {
            return Err(module);
        }
        let mut found = Found {
            gradients,
            path: Vec::new(),
            all: Some(Vec::new()),
            device: None,
        };
        module.visit(&mut found);
        let (Some(all), Some(device)) = (found.all, found.device) else {
            self.hand_over(optimizer);
            return Err(module);
        };
        let parts = parts(all);
        if self.groups.is_empty() && !self.take_over(optimizer, &parts, &device) {
            self.gave_up = true;
            return Err(module);
        }
        if !self.groups.is_empty() && !self.is_of(&parts) {
            self.hand_over(optimizer);
            return Err(module);
        }
        let mut before = std::mem::take(&mut self.groups).into_iter();
        let mut updated = Vec::new();
        for part in parts {
            let before = before.next();
            let time = before.as_ref().map_or(0, |group| group.time) + 1;
            let step = AdamW {
                beta_1: self.beta_1,
                beta_2: self.beta_2,
                epsilon: self.epsilon,
                time,
                max_norm: clipping.map_or(0.0, |clipping| clipping.1),
            };
            let rate = |member: &Member| Rate {
                learning_rate: rates.lr_from_param(member.id, Some(&member.path)),
                weight_decay: if self.undecayed.contains(&member.id) {
                    0.0
                } else {
                    self.weight_decay
                },
            };
            let (after, moments) = step.step(
                part.parameters,
                part.gradients,
                clipping.map(|clipping| clipping.0.clone()),
                before.map(|group| group.moments),
                part.members.iter().map(rate).collect(),
            );
            let ids = part.members.iter().map(|member| member.id);
            updated.extend(ids.zip(after));
            self.groups.push(Group {
                members: part.members,
                moments,
                time,
            });
        }
        Ok(module.map(&mut Updated {
            updated: updated.into_iter().peekable(),
        }))
    }

    /// The record that Burn's optimizer would have after the same steps; `None` before the first.
    pub fn to_record(&self) -> Option<OptimizerRecord> {
        if self.groups.is_empty() {
            return None;
        }
        let mut tensors = Vec::new();
        let (mut scalars, mut paths) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let moments = [
                ("moment_1", &group.moments.first),
                ("moment_2", &group.moments.second),
            ];
            let (starts, _) = starts(group.members.iter().map(Member::size));
            for (name, moment) in moments {
                let values: Vec<f32> = moment.clone().into_data().iter().collect();
                for (member, start) in group.members.iter().zip(&starts) {
                    let values = &values[*start..start + member.size()];
                    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                    tensors.push(Packed::new(
                        format!("{}.momentum.{name}", member.id.val()),
                        DType::F32,
                        member.shape.clone(),
                        Some(member.id.val()),
                        Bytes::from_bytes_vec(bytes.collect()),
                    ));
                }
            }
            for member in &group.members {
                let id = member.id.val();
                scalars.push((format!("{id}.momentum.time"), group.time));
                scalars.push((format!("{id}.__rank"), member.shape.len()));
                paths.push((id.to_string(), &member.path));
            }
        }
        let mut writer = Writer::new(tensors);
        for (key, value) in scalars {
            writer = writer.with_scalar(&key, Scalar::from(value));
        }
        for (key, path) in paths {
            writer = writer.with_metadata(&key, path);
        }
        let bytes = writer.into_bytes().expect("all of it is in memory");
        Some(OptimizerRecord::from_bytes(bytes).expect("what was just written"))
    }

    /// Leaves all further steps to Burn's optimizer.
    fn hand_over(&mut self, optimizer: &mut ModuleOptimizer) {
        if let Some(record) = self.to_record() {
            *optimizer = optimizer.clone().load_record(record);
        }
        self.groups.clear();
        self.gave_up = true;
    }

    /// Whether the moments belong to these parameters.
    fn is_of(&self, parts: &[Part]) -> bool {
        let same = |(group, part): (&Group, &Part)| group.members == part.members;
        self.groups.len() == parts.len() && self.groups.iter().zip(parts).all(same)
    }

    /// Begins with the state of Burn's optimizer; false if not all parameters have been trained
    /// equally long.
    fn take_over(&mut self, optimizer: &ModuleOptimizer, parts: &[Part], device: &Device) -> bool {
        let record = optimizer.to_record();
        if record.is_empty() {
            return true;
        }
        let groups = known(record, parts, device);
        let taken = groups.is_some();
        self.groups = groups.unwrap_or_default();
        taken
    }
}

impl fmt::Debug for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flat").finish_non_exhaustive()
    }
}

/// The moments that a record has for these parameters; `None` if it lacks some, or has others
/// besides.
fn known(record: OptimizerRecord, parts: &[Part], device: &Device) -> Option<Vec<Group>> {
    let reader = Reader::from_bytes(record.into_bytes().ok()?).ok()?;
    let scalars = reader.scalars().clone();
    let mut tensors = std::collections::HashMap::new();
    for tensor in reader.into_tensors().ok()? {
        let (name, dtype, shape, _, bytes) = tensor.into_parts().ok()?;
        tensors.insert(name, TensorData::from_bytes(bytes, shape, dtype));
    }
    let mut groups = Vec::new();
    for part in parts {
        let (starts, length) = starts(part.members.iter().map(Member::size));
        let mut moments = [vec![0.0f32; length], vec![0.0f32; length]];
        let mut times = HashSet::new();
        for (member, start) in part.members.iter().zip(starts) {
            let id = member.id.val();
            let time = scalars.get(&format!("{id}.momentum.time"))?;
            times.insert(usize::try_from(*time).ok()?);
            for (moment, name) in moments.iter_mut().zip(["moment_1", "moment_2"]) {
                let data = tensors.remove(&format!("{id}.momentum.{name}"))?;
                let data: Vec<f32> = data.iter().collect();
                let own = moment.get_mut(start..start + member.size())?;
                if own.len() != data.len() {
                    return None;
                }
                own.copy_from_slice(&data);
            }
        }
        let [first, second] =
            moments.map(|values| Tensor::from_data(TensorData::new(values, [length]), device));
        let times: Vec<usize> = times.into_iter().collect();
        let [time] = times[..] else { return None };
        groups.push(Group {
            members: part.members.clone(),
            moments: Moments { first, second },
            time,
        });
    }
    tensors.is_empty().then_some(groups)
}

/// Parameters that are updated together, with their gradients.
#[derive(Default)]
struct Part {
    members: Vec<Member>,
    parameters: Vec<GpuTensor>,
    gradients: Vec<GpuTensor>,
}

/// Divides the parameters into as few parts as possible.
fn parts(all: Vec<(Member, GpuTensor, GpuTensor)>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut values = MOST;
    for (member, parameter, gradient) in all {
        values += member.size();
        if values > MOST {
            parts.push(Part::default());
            values = member.size();
        }
        if let Some(part) = parts.last_mut() {
            part.members.push(member);
            part.parameters.push(parameter);
            part.gradients.push(gradient);
        }
    }
    parts
}

/// Collects all parameters with a gradient.
struct Found<'a> {
    gradients: &'a GradientsParams,
    path: Vec<String>,
    /// `None` if one of them is not in 32 bits on a GPU.
    all: Option<Vec<(Member, GpuTensor, GpuTensor)>>,
    device: Option<Device>,
}

impl ModuleVisitor for Found<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(all) = &mut self.all else { return };
        let Some(gradient) = self.gradients.get::<D>(param.id) else {
            return;
        };
        let value = param.val().inner();
        self.device.get_or_insert_with(|| value.device());
        let member = Member {
            id: param.id,
            path: self.path.join("."),
            shape: value.shape().to_vec(),
        };
        match (GpuTensor::of(&value), GpuTensor::of(&gradient)) {
            (Some(value), Some(gradient)) => all.push((member, value, gradient)),
            _ => self.all = None,
        }
    }
}

/// Puts the new values in the place of the old ones.
struct Updated<I: Iterator<Item = (ParamId, GpuTensor)>> {
    updated: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = (ParamId, GpuTensor)>> ModuleMapper for Updated<I> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some((_, value)) = self.updated.next_if(|(next, _)| *next == id) else {
            return param;
        };
        let (id, before, mapper) = param.consume();
        let mut value = Tensor::from_inner(value.into_tensor());
        if let Some(strategy) = before.gradient_checkpointing_strategy() {
            value = value.with_gradient_checkpointing_strategy(strategy);
        }
        if before.is_require_grad() {
            value = value.require_grad();
        }
        Param::from_mapped_value(id, value, mapper)
    }
}
