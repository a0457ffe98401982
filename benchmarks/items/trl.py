"""TRL's GRPO trainer on as many sequences of the same prompts: one policy, since it trains one adapter.

A step is timed from its begin to its end as the trainer reports them; sampling is timed where the trainer calls it,
and the update is the rest.
"""

from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.items import measure
from benchmarks.work import Work

ROWS = 32  # sequences of one forward and backward; all at once needs more than 20 GB on W


class Timed(GRPOTrainer):
    """The trainer with a clock on its sampling."""

    sampling = measure.Lap()

    def _generate_and_score_completions(self, *args: Any, **kwargs: Any) -> Any:
        start = measure.now()
        result = super()._generate_and_score_completions(*args, **kwargs)
        self.sampling += measure.now() - start
        return result


class Clock(TrainerCallback):
    """Seconds of each step, divided into sampling and the rest."""

    def __init__(self, laps: measure.Laps) -> None:
        self.laps = laps
        self.trainer: Timed | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        assert self.trainer is not None
        self.trainer.sampling, self.start = measure.Lap(), measure.now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        assert self.trainer is not None
        self.laps.rollout.append(self.trainer.sampling)
        self.laps.update.append(measure.now() - self.start - self.trainer.sampling)


def rewards(completions: list[Any], **_: Any) -> list[float]:
    return [float(i % 2) for i in range(len(completions))]


def trainer(args: Any, work: Work, clock: Clock) -> Timed:
    import torch

    assert work.rows % ROWS == 0, "whole batches only"
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    prompts = [tokenizer.decode(ids) for node in work.nodes for ids in node.prefix_ids]
    tokens = work.nodes[0].tokens
    settings = GRPOConfig(
        output_dir="trl",
        per_device_train_batch_size=ROWS,
        gradient_accumulation_steps=work.rows // ROWS,
        num_generations=work.rollouts,
        max_completion_length=tokens,
        generation_kwargs={"min_new_tokens": tokens},
        max_steps=args.warmup + args.repeats,
        temperature=1.0,
        top_k=0,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        beta=0.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        shuffle_dataset=False,
    )
    made = Timed(
        model=AutoModelForCausalLM.from_pretrained(work.model, dtype=getattr(torch, work.dtype)),
        reward_funcs=rewards,
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=work.rank, lora_alpha=2 * work.rank, target_modules=work.targets, task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    clock.trainer = made
    return made


def main() -> None:
    args = measure.options()
    work: Work = args.work
    if work.topology != "layer":
        raise SystemExit("one policy with one prompt format: only single layers compare")
    laps = measure.Laps()
    made = trainer(args, work, Clock(laps))
    made.train()
    tokens = made.state.num_input_tokens_seen
    measure.report(laps, args, tokens_seen=tokens)


if __name__ == "__main__":
    main()
