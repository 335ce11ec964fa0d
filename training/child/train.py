"""LoRA fine-tuning: transformers' Trainer, with peft, on what is to be answered alone.

The order of the rows depends on the seed, so a run that goes on from a checkpoint sees the same batches as
one that was never interrupted, and ends with the same weights.
"""

import json
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.pytorch_utils import Conv1D

from training.child import checkpoints
from training.child.base import TrainingChat, context_of, load_chat, load_model
from training.child.job import ChildFailure, Job, Stopped
from training.child.rows import IGNORED, Encoded, encoded_all, require_short
from training.rows import split

CHECKPOINTS, ADAPTER, SCRATCH = "checkpoints", "adapter", "scratch"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
STATE, OPTIMIZER = "trainer_state.json", "optimizer.json"
"""The first is transformers' own name, and it looks for it."""
TELL_SECONDS = 1.0


def run(job: Job) -> dict[str, Any]:
    """Train as job.json says: {"model", "base_name", "device", "settings"}, on the rows of the file "rows".

    The adapter is in the folder ADAPTER then. What is returned is {"steps", "rows", "held_out"}.
    """
    settings, folder = job.data["settings"], Path(job.data["model"])
    _require_room(job)
    train, held_out = _rows(job, load_chat(folder))
    set_seed(settings["seed"])
    model = _with_lora(load_model(folder, job.data["device"]), job.data)
    begun = checkpoints.last(job.folder / CHECKPOINTS)
    trainer = _trainer(job, model, train, held_out, is_new=begun is None)
    trainer.train(resume_from_checkpoint=str(begun) if begun else None)
    if trainer.is_stopped:
        raise Stopped
    _keep_adapter(job.folder, model)
    return {"steps": trainer.state.global_step, "rows": len(train), "held_out": len(held_out)}


def _require_room(job: Job) -> None:
    """Of the accelerator's memory only what is free now counts; the machine's is counted by its kernel."""
    if job.data["device"] == "cuda" and torch.cuda.mem_get_info()[0] < job.data["memory_bytes"]:
        raise ChildFailure("does_not_fit")


# --- What goes in ------------------------------------------------------------------------------------


def _rows(job: Job, chat: TrainingChat) -> tuple["Rows", "Rows"]:
    """The rows to train on, and those that are held out."""
    settings = job.data["settings"]
    rows = [json.loads(line) for line in job.files["rows"]]
    numbers = split(rows, seed=settings["seed"], fraction=settings["eval_fraction"])
    most, context = settings["max_length"], context_of(Path(job.data["model"]))
    all_rows = encoded_all(rows, chat)
    if settings.get("leave_out"):
        limit = min(most, context)
    else:
        require_short(all_rows, most=most, context=context)
        limit = context
    sides = [[row for number in side if len((row := all_rows[number]).tokens) <= limit] for side in numbers]
    if left_out := len(all_rows) - sum(map(len, sides)):
        job.tell("left_out", rows=left_out)
    train, held_out = (Rows(side, chat.pad) for side in sides)
    if not len(train):
        raise ChildFailure("no_rows")
    return train, held_out


class Rows(Dataset[Encoded]):
    """Encoded rows, and how some of them become one batch."""

    def __init__(self, rows: Sequence[Encoded], pad: int) -> None:
        self._rows = rows
        self._pad = pad

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Encoded:
        return self._rows[number]

    def batch(self, rows: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """(rows, longest): shorter ones are filled up at their end, where nothing is learnt."""
        longest = max(len(row.tokens) for row in rows)

        def filled(values: list[int], filling: int) -> list[int]:
            return values + [filling] * (longest - len(values))

        return {
            "input_ids": torch.tensor([filled(row.tokens, self._pad) for row in rows]),
            "attention_mask": torch.tensor([filled([1] * len(row.tokens), 0) for row in rows]),
            "labels": torch.tensor([filled(row.labels, IGNORED) for row in rows]),
        }


def _with_lora(model: Any, data: dict[str, Any]) -> Any:
    settings = data["settings"]
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=linear_layers(model),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    # Else it would name a folder of this machine.
    config.base_model_name_or_path = data["base_name"]
    return adapted


def lora_of(model: Any) -> dict[str, torch.Tensor]:
    """The weights that were trained."""
    # Else peft asks the hub whether the embeddings were changed too.
    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def linear_layers(model: Any) -> list[str]:
    """The last names of all linear layers but the output: what LoRA stands in for."""
    output = model.get_output_embeddings()
    names = {
        name.rpartition(".")[2]
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, Conv1D)) and layer is not output
    }
    return sorted(names)


# --- The training ------------------------------------------------------------------------------------


def _trainer(job: Job, model: Any, train: Rows, held_out: Rows, *, is_new: bool) -> "CheckedTrainer":
    has_held_out = len(held_out) > 0
    return CheckedTrainer(
        job=job,
        model=model,
        args=_arguments(job, has_held_out=has_held_out, is_new=is_new),
        train_dataset=train,
        eval_dataset=held_out if has_held_out else None,
        data_collator=train.batch,
        callbacks=[Teller(job, has_held_out=has_held_out)],
    )


def _arguments(job: Job, *, has_held_out: bool, is_new: bool) -> TrainingArguments:
    settings = job.data["settings"]
    return TrainingArguments(
        output_dir=str(job.folder / SCRATCH),
        per_device_train_batch_size=settings["batch_size"],
        per_device_eval_batch_size=settings["batch_size"],
        gradient_accumulation_steps=settings["gradient_accumulation"],
        num_train_epochs=settings["epochs"],
        max_steps=settings["max_steps"] or -1,
        learning_rate=settings["learning_rate"],
        warmup_steps=settings["warmup"],
        lr_scheduler_type="linear",
        seed=settings["seed"],
        data_seed=settings["seed"],
        logging_strategy="steps",
        logging_steps=settings["log_every"],
        # A loss that is no number any more is to be seen, and ends the run.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings["save_every"],
        eval_strategy="steps" if has_held_out else "no",
        eval_steps=settings["save_every"],
        # How good the model is before the first step.
        eval_on_start=is_new and has_held_out,
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        use_cpu=job.data["device"] == "cpu",
        dataloader_pin_memory=False,
        report_to=[],
        disable_tqdm=True,
    )


class Teller(TrainerCallback):
    """Tells the parent how far the training is, and ends it after the step in which it is asked to."""

    def __init__(self, job: Job, *, has_held_out: bool) -> None:
        self._job = job
        self._has_held_out = has_held_out
        self._told = 0.0
        self._began = 0.0
        self._seconds = 0.0
        """Of the steps since the last line, without what was done between them."""
        self._tokens = 0
        self.is_asked_to_stop = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_asked_to_stop = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._tokens = state.num_input_tokens_seen
        self._job.tell("started", step=state.global_step, total_steps=state.max_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        now = time.monotonic()
        self._seconds += now - self._began
        if now - self._told >= TELL_SECONDS:
            self._told = now
            self._job.tell("step", step=state.global_step)
        if state.global_step >= state.max_steps:
            control.should_log, control.should_evaluate = True, self._has_held_out
        elif self.is_asked_to_stop:
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if "loss" in logs:
            self._tell_of_steps(state, logs)
        if "eval_loss" in logs:
            self._job.tell("metric", step=state.global_step, eval_loss=logs["eval_loss"])

    def _tell_of_steps(self, state: Any, logs: dict[str, Any]) -> None:
        loss = float(logs["loss"])
        if loss != loss or loss == float("inf"):
            raise ChildFailure("diverged", step=state.global_step)
        tokens = int(state.num_input_tokens_seen) - int(self._tokens)
        self._job.tell(
            "metric",
            step=state.global_step,
            loss=loss,
            learning_rate=logs.get("learning_rate"),
            gradient_norm=logs.get("grad_norm"),
            tokens_per_second=tokens / self._seconds if self._seconds else None,
        )
        self._tokens, self._seconds = state.num_input_tokens_seen, 0.0


class CheckedTrainer(Trainer):
    """transformers' Trainer with other checkpoints: its own are pickles, and may be torn by a fall."""

    def __init__(self, *, job: Job, **options: Any) -> None:
        super().__init__(**options)
        self._job = job

    @property
    def is_stopped(self) -> bool:
        return bool(self.state.global_step < self.state.max_steps)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        state, groups = checkpoints.flat(self.optimizer.state_dict())
        tensors = {
            **_prefixed("adapter", lora_of(self.model)),
            **_prefixed("optimizer", state),
            **_prefixed("random", _random_state()),
        }
        optimizer = {"groups": groups, "scheduler": self.lr_scheduler.state_dict()}
        # What was logged has been told, and is in the site's database.
        trainer_state = {**asdict(self.state), "log_history": [], "stateful_callbacks": {}}
        root = self._job.folder / CHECKPOINTS
        checkpoints.write(root, self.state.global_step, tensors, {OPTIMIZER: optimizer, STATE: trainer_state})
        self._job.tell("checkpoint", step=self.state.global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        tensors = checkpoints.tensors_in(Path(resume_from_checkpoint))
        set_peft_model_state_dict(self.model, _with_prefix("adapter", tensors))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            kept = checkpoints.document_in(Path(checkpoint), OPTIMIZER)
            tensors = _with_prefix("optimizer", checkpoints.tensors_in(Path(checkpoint)))
            own = self.optimizer.state_dict()
            self.optimizer.load_state_dict(checkpoints.restored(own, tensors, kept["groups"]))
            self.lr_scheduler.load_state_dict(kept["scheduler"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            states = _with_prefix("random", checkpoints.tensors_in(Path(checkpoint)))
            torch.set_rng_state(states.pop("cpu"))
            if states and torch.cuda.is_available():
                torch.cuda.set_rng_state_all([states[name] for name in sorted(states)])


def _random_state() -> dict[str, torch.Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), **{f"cuda{at:02}": state for at, state in enumerate(cuda)}}


def _prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}:{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    start = f"{prefix}:"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


# --- What comes out ----------------------------------------------------------------------------------


def _keep_adapter(folder: Path, model: Any) -> None:
    """Write the adapter beside its place, and then put it there: it is whole or not there at all."""
    new, place = folder / f".{ADAPTER}", folder / ADAPTER
    for left in (new, place):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in lora_of(model).items()}
    checkpoints.write_file(new / ADAPTER_WEIGHTS, save(tensors, metadata={"format": "pt"}))
    checkpoints.write_file(new / ADAPTER_CONFIG, json.dumps(_config(model), indent=2).encode())
    new.rename(place)


def _config(model: Any) -> dict[str, Any]:
    config = model.peft_config["default"].to_dict()
    return {**config, "inference_mode": True, "target_modules": sorted(config["target_modules"])}
