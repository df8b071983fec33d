"""llama.cpp in this process, used through its own HTTP server."""

import json
import os
import time
import urllib.request

# Its log goes to standard error, thousands of lines of it.
os.environ.setdefault("LLAMA_LOG_VERBOSITY", "0")

import xllamacpp


class Llama:
    def __init__(self, model, lora=None, threads=2, context=2048):
        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx = context
        params.n_gpu_layers = 0
        params.n_parallel = 1
        params.warmup = False
        params.fit_params = False
        params.verbosity = 0
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        if lora:
            # The list keeps the object alive as long as the parameters.
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
        start = time.perf_counter()
        self.server = xllamacpp.Server(params)
        self.load_seconds = time.perf_counter() - start

    def ask(self, path, **body):
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.server.listening_address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def greedy(self, ids, tokens, cache=False, **more):
        return self.ask("/completion", prompt=ids, n_predict=tokens, temperature=0, samplers=["temperature"], return_tokens=True, cache_prompt=cache, **more)

    def tokens(self, text, special=False):
        """The tokens of a text; those that the tokenizer puts around it only if `special`."""
        return self.ask("/tokenize", content=text, add_special=special, parse_special=True)["tokens"]

    def prompt(self, messages):
        """The prompt that its chat endpoint makes from messages."""
        return self.ask("/apply-template", messages=messages)["prompt"]
