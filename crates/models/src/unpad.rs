//! A padded batch without its padding.

use burn::tensor::{Int, Tensor, TensorData};

use crate::spans::host;
use crate::{LmBatch, ModelInput};

impl LmBatch {
    /// The same texts as one packed row, if there is padding to leave out: it costs as much as
    /// tokens do.
    pub(crate) fn unpadded(&self) -> Option<Self> {
        let input = &self.input;
        if !input.extra.is_empty() {
            // The texts of one packed row share what stands before them, one mask for all pairs.
            return None;
        }
        let device = input.input_ids.device();
        let mask = input
            .attention_mask
            .as_ref()
            .filter(|_| input.segment_ids.is_none() && self.count > 0)?;
        let (mask, ids) = (host(mask), host(&input.input_ids));
        let [_, seq] = input.input_ids.dims();
        let given = input.position_ids.as_ref().map(host);
        let position = |at: usize| given.as_ref().map_or((at % seq) as i64, |given| given[at]);

        let mut packed = [Vec::new(), Vec::new(), Vec::new()];
        let mut places = vec![0; mask.len()];
        for at in (0..mask.len()).filter(|&at| mask[at] != 0) {
            places[at] = packed[0].len() as i64;
            let row = at / seq + 1;
            for (values, value) in packed.iter_mut().zip([ids[at], position(at), row as i64]) {
                values.push(value);
            }
        }
        let positions = self.positions.clone().into_data();
        let positions: Vec<usize> = positions.iter::<i64>().map(|at| at as usize).collect();
        if positions.iter().any(|&at| mask[at] == 0) {
            // A first token that is predicted from the padding on its left needs that padding.
            return None;
        }
        let positions: Vec<i64> = positions.into_iter().map(|at| places[at]).collect();
        let [input_ids, position_ids, segment_ids] = packed.map(|values| {
            let shape = [1, values.len()];
            Tensor::<2, Int>::from_data(TensorData::new(values, shape), &device)
        });
        Some(Self {
            input: ModelInput {
                position_ids: Some(position_ids),
                segment_ids: Some(segment_ids),
                ..ModelInput::new(input_ids)
            },
            positions: Tensor::from_data(TensorData::new(positions, [self.count]), &device),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn unpadded(mask: [i64; 6], labels: [i64; 6]) -> Option<LmBatch> {
        let ids = [5, 6, 7, 8, 9, 10];
        let batch = LmBatch::new(&ids, &mask, &labels, [2, 3], &Device::flex());
        batch.unwrap().unpadded()
    }

    #[test]
    fn every_supervised_position_keeps_its_token() {
        let batch = unpadded([1, 1, 0, 1, 1, 1], [5, 6, -100, 8, 9, 10]).unwrap();
        assert_eq!(host(&batch.input.input_ids), [5, 6, 8, 9, 10]);
        let positions = batch.positions.into_data();
        assert_eq!(positions.iter::<i64>().collect::<Vec<_>>(), [0, 2, 3]);
        // 6 is predicted from the padding before it.
        assert!(unpadded([0, 1, 1, 1, 1, 1], [-100, 6, 7, 8, 9, 10]).is_none());
        assert!(unpadded([0, 1, 1, 1, 1, 1], [-100, -100, 7, 8, 9, 10]).is_some());
        // Nothing to leave out.
        assert!(unpadded([1; 6], [5, 6, 7, 8, 9, 10]).is_none());
    }
}
