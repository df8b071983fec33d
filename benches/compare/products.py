"""The matrix products of one training step of GPT-2 with LoRA on `c_attn`."""


def shapes(config, batch, length, r):
    """Each product [m, k] × [k, n] with how often a step does it. What a step can do without is not
    counted: gradients of frozen weights, of what lies below the first adapted layer, of ignored
    labels, and the half of the attention that the causal mask takes away."""
    layers, d, vocabulary = config["n_layer"], config["n_embd"], config["vocab_size"]
    heads = config["n_head"]
    inner, tokens, predicted = config.get("n_inner") or 4 * d, batch * length, batch * (length - 1)
    found = []

    def add(name, m, k, n, count, batch=1):
        found.append({"name": name, "batch": batch, "m": m, "k": k, "n": n, "count": count})

    def frozen(name, inputs, outputs, backward):
        add(name, tokens, inputs, outputs, layers)
        add(f"{name} backward", tokens, outputs, inputs, backward)

    frozen("c_attn", d, 3 * d, layers - 1)
    frozen("attn.c_proj", d, d, layers)
    frozen("c_fc", d, inner, layers)
    frozen("mlp.c_proj", inner, d, layers)
    add("lora_A", tokens, d, r, layers)
    add("lora_B", tokens, r, 3 * d, layers)
    add("lora_B gradient", r, tokens, 3 * d, layers)
    add("lora_B backward", tokens, 3 * d, r, layers)
    add("lora_A gradient", d, tokens, r, layers)
    add("lora_A backward", tokens, r, d, layers - 1)
    # Scores and their gradient; output, and the gradients of queries, keys and values.
    add("attention scores", length, d // heads, length, 2 * layers * 0.5, batch * heads)
    add("attention values", length, length, d // heads, 4 * layers * 0.5, batch * heads)
    add("lm_head", predicted, d, vocabulary, 1)
    add("lm_head backward", predicted, vocabulary, d, 1)
    return found
