"""Python's side of the comparison: transformers' Trainer on a peft model, with the settings of a file.

    rival.py SETTINGS.json --prepare     makes the start adapter, and rows of token ids
    rival.py SETTINGS.json               trains and evaluates; the last line printed is one JSON object
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments


def base(settings):
    return AutoModelForSequenceClassification.from_pretrained(settings["model"], num_labels=2, dtype=torch.float32)


def prepare(settings):
    torch.manual_seed(settings["seed"])
    config = LoraConfig(
        task_type="SEQ_CLS", r=settings["r"], lora_alpha=settings["lora_alpha"], target_modules=settings["target_modules"],
    )
    get_peft_model(base(settings), config).save_pretrained(settings["adapter"])


class Rows(torch.utils.data.Dataset):
    def __init__(self, file, tokenizer, length):
        rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
        tokens = tokenizer([row["text"] for row in rows], truncation=True, max_length=length)
        self.rows = [
            {name: tokens[name][at] for name in tokens} | {"labels": row["label"]} for at, row in enumerate(rows)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, at):
        return self.rows[at]


def accuracy(predictions):
    right = predictions.predictions.argmax(-1) == predictions.label_ids
    return {"accuracy": float(right.mean())}


def train(settings):
    torch.set_num_threads(settings["threads"])
    model = PeftModel.from_pretrained(base(settings), settings["adapter"], is_trainable=True)
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    model.base_model.model.config.pad_token_id = tokenizer.pad_token_id
    train, held_out = (Rows(settings[name], tokenizer, settings["length"]) for name in ("train", "held_out"))
    arguments = TrainingArguments(
        output_dir=settings["output"], num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch"], per_device_eval_batch_size=settings["eval_batch"],
        learning_rate=settings["learning_rate"], lr_scheduler_type="linear", weight_decay=0.01, seed=settings["seed"],
        logging_steps=settings["logging_steps"], save_strategy="no", report_to=[], bf16=False, use_cpu=True,
        disable_tqdm=True, train_sampling_strategy="sequential", dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=train, eval_dataset=held_out,
        data_collator=DataCollatorWithPadding(tokenizer), processing_class=tokenizer, compute_metrics=accuracy,
    )
    trained = trainer.train()
    evaluated = trainer.evaluate()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = settings["epochs"] * sum(len(row["input_ids"]) for row in train.rows)
    print(json.dumps({
        "losses": losses, "train_seconds": trained.metrics["train_runtime"], "eval_seconds": evaluated["eval_runtime"],
        "accuracy": evaluated["eval_accuracy"], "eval_loss": evaluated["eval_loss"], "tokens": tokens,
    }))


settings = json.loads(Path(sys.argv[1]).read_text())
prepare(settings) if "--prepare" in sys.argv else train(settings)
