//! A padded batch without its padding.

use burn::tensor::Device;

use crate::LmBatch;
use crate::batch::{Labelled, matrix};
use crate::texts;

/// The texts of a batch as one packed row, if there is padding to leave out: it costs as much as
/// tokens do. All are `[batch, seq]`, row after row, and `seq` is the last.
pub(crate) fn unpadded(
    ids: &[i64],
    mask: &[i64],
    labelled: &Labelled,
    seq: usize,
    device: &Device,
) -> Option<LmBatch> {
    if labelled.positions.is_empty() || !mask.contains(&0) {
        return None;
    }
    let [mut input_ids, mut position_ids, mut segment_ids] = [const { Vec::new() }; 3];
    let mut places = vec![None; mask.len()];
    for at in (0..mask.len()).filter(|&at| mask[at] != 0) {
        places[at] = Some(input_ids.len() as i64);
        input_ids.push(ids[at]);
        position_ids.push((at % seq) as i64);
        segment_ids.push((at / seq + 1) as i64);
    }
    // A first token that is predicted from the padding on its left needs that padding.
    let positions = labelled.positions.iter().map(|&at| places[at as usize]);
    let labelled = Labelled {
        positions: positions.collect::<Option<_>>()?,
        targets: labelled.targets.clone(),
    };
    let shape = [1, input_ids.len()];
    let texts = texts::packed(&segment_ids, shape);
    let mut batch = LmBatch::of(&input_ids, labelled, shape, device);
    batch.input.position_ids = Some(matrix(&position_ids, shape, device));
    batch.input.segment_ids = Some(matrix(&segment_ids, shape, device));
    batch.input.texts = texts;
    Some(batch)
}

impl LmBatch {
    /// The batch without its padding, unless it has none or something stands before its texts:
    /// those of one packed row would share it.
    pub(crate) fn unpadded(&self) -> &Self {
        let stands_alone = self.input.extra.is_empty() && self.input.position_ids.is_none();
        let unpadded = self.unpadded.as_deref().filter(|_| stands_alone);
        unpadded.unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Int, Tensor};

    fn unpadded(mask: [i64; 6], labels: [i64; 6]) -> [Vec<i64>; 2] {
        let ids = [5, 6, 7, 8, 9, 10];
        let batch = LmBatch::new(&ids, &mask, &labels, [2, 3], &Device::flex()).unwrap();
        let batch = batch.unpadded();
        let ids = batch.input.input_ids.clone().flatten::<1>(0, 1);
        let numbers = Tensor::<1, Int>::arange(0..ids.dims()[0] as i64, &Device::flex());
        let positions = batch.supervised.there(numbers.float().unsqueeze_dim(1));
        let read = |tensor: Tensor<1, Int>| tensor.into_data().iter::<i64>().collect();
        [ids, positions.squeeze_dim::<1>(1).int()].map(read)
    }

    #[test]
    fn every_supervised_position_keeps_its_token() {
        let [ids, positions] = unpadded([1, 1, 0, 1, 1, 1], [5, 6, -100, 8, 9, 10]);
        assert_eq!(ids, [5, 6, 8, 9, 10]);
        assert_eq!(positions, [0, 2, 3]);
        let unchanged = |mask, labels| unpadded(mask, labels)[0].len() == 6;
        // 6 is predicted from the padding before it.
        assert!(unchanged([0, 1, 1, 1, 1, 1], [-100, 6, 7, 8, 9, 10]));
        assert!(!unchanged([0, 1, 1, 1, 1, 1], [-100, -100, 7, 8, 9, 10]));
        // Nothing to leave out.
        assert!(unchanged([1; 6], [5, 6, 7, 8, 9, 10]));
    }
}
