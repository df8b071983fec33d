"""Loads an adapter of `image_classifier` or `encoder` into Python's peft, and compares the output of both.

    python examples/load_in_peft.py FOLDER       (torch, safetensors and peft 0.21)

FOLDER has the adapter, and the base with a batch and Rust's output for it. The networks are those of the
examples, written in PyTorch. Exits with 1 if something differs, with 77 if Python has no peft.
"""

import sys
from pathlib import Path

try:
    import peft
    import torch
    from safetensors.torch import load_file
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention
except ImportError as missing:
    print(f"skipped: {missing} (benches/compare/requirements.txt)", file=sys.stderr)
    sys.exit(77)


class Block(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, 2, 1, bias=False)
        self.norm1 = nn.GroupNorm(4, out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(4, out)
        self.shortcut = nn.Conv2d(channels, out, 1, 2, bias=False)

    def forward(self, x):
        hidden = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 1, 1, bias=False)
        self.blocks = nn.ModuleList([Block(8, 16), Block(16, 32)])
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        for name in ["query", "key", "value", "output"]:
            setattr(self, name, nn.Linear(width, width))

    def forward(self, x):
        split = lambda layer: layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        found = scaled_dot_product_attention(split(self.query), split(self.key), split(self.value))
        return self.output(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.linear_inner = nn.Linear(width, inner)
        self.linear_outer = nn.Linear(inner, width)

    def forward(self, x):
        return self.linear_outer(nn.functional.gelu(self.linear_inner(x)))


class EncoderLayer(nn.Module):
    def __init__(self, width, inner, heads):
        super().__init__()
        self.mha = Attention(width, heads)
        self.pwff = FeedForward(width, inner)
        self.norm_1 = nn.LayerNorm(width)
        self.norm_2 = nn.LayerNorm(width)

    def forward(self, x):
        x = self.norm_1(x + self.mha(x))
        return self.norm_2(x + self.pwff(x))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(32, 64, 4) for _ in range(2))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(12, 32)
        self.positions = nn.Embedding(8, 32)
        self.encoder = Encoder()
        self.head = nn.Linear(32, 2)

    def forward(self, ids):
        ids = ids.long()
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for layer in self.encoder.layers:
            x = layer(x)
        return self.head(x.mean(1))


folder = Path(sys.argv[1])
[file] = folder.glob("*.safetensors")
tensors = load_file(file)
x, expected = tensors.pop("input"), tensors.pop("output")
base = {"image": ResNet, "encoder": Classifier}[file.stem]()
base.load_state_dict(tensors)
model = peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
with torch.no_grad():
    output, merged = model(x), model.merge_and_unload()(x)
print(f"{model.peft_type.value} in peft {peft.__version__}: {(output - expected).abs().max():.1e} from Rust's output,")
print(f"merged {(merged - expected).abs().max():.1e}, of values up to {expected.abs().max():.1f}")
assert torch.allclose(output, expected, atol=1e-4) and torch.allclose(merged, expected, atol=1e-3)
