"""The matrix products of one training step with LoRA."""


def gpt2(config):
    """Layers, width, heads, width of a head, the linear layers of a block, and the first of them."""
    d, heads = config["n_embd"], config["n_head"]
    inner = config.get("n_inner") or 4 * d
    linears = {"c_attn": (d, 3 * d), "attn.c_proj": (d, d), "c_fc": (d, inner), "mlp.c_proj": (inner, d)}
    return config["n_layer"], d, heads, d // heads, linears, ["c_attn"]


def llama(config):
    d, heads, inner = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
    head = config.get("head_dim") or d // heads
    queries, keys = heads * head, config["num_key_value_heads"] * head
    linears = {
        "q_proj": (d, queries), "k_proj": (d, keys), "v_proj": (d, keys), "o_proj": (queries, d),
        "gate_proj": (d, inner), "up_proj": (d, inner), "down_proj": (inner, d),
    }  # fmt: skip
    return config["num_hidden_layers"], d, heads, head, linears, ["q_proj", "k_proj", "v_proj"]


def shapes(config, lora, batch, length):
    """Each product [m, k] × [k, n], and how many times a step does it. What a step does not need is not
    counted: gradients of frozen weights and of everything below the first adapted layer, ignored labels,
    and the half of the attention that the causal mask removes."""
    layers, d, heads, head, linears, first = (gpt2 if "n_embd" in config else llama)(config)
    targets = linears if lora["target_modules"] == "all-linear" else lora["target_modules"]
    r, vocabulary, tokens, predicted = lora["r"], config["vocab_size"], batch * length, batch * (length - 1)
    found = []

    def add(name, m, k, n, count, batch=1):
        found.append({"name": name, "batch": batch, "m": m, "k": k, "n": n, "count": count})

    for name, (inputs, outputs) in linears.items():
        # There is nothing to train below the first layers of the first block.
        backward = layers - (name in first)
        add(name, tokens, inputs, outputs, layers)
        add(f"{name} backward", tokens, outputs, inputs, backward)
        if name in targets:
            add(f"{name} lora_A", tokens, inputs, r, layers)
            add(f"{name} lora_B", tokens, r, outputs, layers)
            add(f"{name} lora_B gradient", r, tokens, outputs, layers)
            add(f"{name} lora_B backward", tokens, outputs, r, layers)
            add(f"{name} lora_A gradient", inputs, tokens, r, layers)
            add(f"{name} lora_A backward", tokens, r, inputs, backward)
    # Scores and their gradient; output, and the gradients of queries, keys and values.
    add("attention scores", length, head, length, 2 * layers * 0.5, batch * heads)
    add("attention values", length, length, head, 4 * layers * 0.5, batch * heads)
    add("lm_head", predicted, d, vocabulary, 1)
    add("lm_head backward", predicted, vocabulary, d, 1)
    return found
