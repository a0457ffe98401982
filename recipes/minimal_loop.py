"""The whole method in one file: a network of language-model nodes, trained from the reward of its final answer.

    python recipes/minimal_loop.py        # two minutes on one core

Read it from top to bottom; then `src/neuromas/train/step.py`, which does the same for real runs. The library adds what
is left out here on purpose, so that nothing stands between you and the method:
- a run folder with checkpoints, curves and resuming: `neuromas.train` does all of this file in one call;
- micro-batches, which bound the memory of an update, and several workers that share it;
- other estimators of credit, a penalty for leaving the backbone, an entropy bonus, node dropout, growing networks;
- a warm-up of the learning rate, and an end to the run where a gradient is not finite.

Legend: P question, G rollout, N node.
"""

import torch

import neuromas as nm

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # layers that get an adapter


def build(topology: str = "2", seed: int = 0) -> tuple[nm.Network, nm.Task]:
    """An untrained network and its task."""
    # The task draws nested arithmetic such as (a(3+5)*b(2*7)), modulo 10, and grades a reply 1 or 0.
    task = nm.load_task("compositional", depth=2)
    # The backbone is frozen and shared by all nodes. This one is embedded in the package; hub ids work too.
    backbone = nm.Backbone.load("tiny")
    # A topology says who reads whom: "2" is two nodes side by side and an output that reads both. A node's only weights
    # are a LoRA adapter, and no node is told what to do: its prompt says where it stands, and whom it reads.
    limits = nm.Limits(message_tokens=12, answer_tokens=task.max_answer_tokens)
    network = nm.Network.create(topology, backbone, rank=8, targets=LINEAR, seed=seed, limits=limits)
    return network, task


def train_step(
    network: nm.Network,
    optimizer: torch.optim.Optimizer,
    task: nm.Task,
    questions: list[nm.Question],
    *,
    rollouts: int = 8,
    clip: float = 1.0,
    seed: int = 0,
) -> float:
    """Answer P questions G times each, and update every node once; returns the mean reward before the update."""
    # 1. Sample. Layer by layer every node writes a message to those that read it; the output's message is the answer.
    #    Random numbers depend on the seed, the question, the rollout, the node and the token alone, so a step repeats.
    traces = network.answer(questions, greedy=False, seed=seed, rollouts=rollouts)

    # 2. Reward the final answer. Messages are not graded: what is worth saying, the nodes find out by themselves.
    repeated = [question for question in questions for _ in range(rollouts)]
    grades = task.grade_many(repeated, [trace.answer for trace in traces])
    rewards_PG = torch.tensor([grade.reward for grade in grades]).view(len(questions), rollouts)

    # 3. Compare each rollout with the other rollouts of its question. A baseline that has not seen the rollout lowers
    #    the variance of the gradient and leaves its mean as it is; dividing by a standard deviation would not.
    others_PG = (rewards_PG.sum(1, keepdim=True) - rewards_PG) / (rollouts - 1)
    advantages = (rewards_PG - others_PG).flatten().tolist()

    # 4. Replay the very tokens that were sampled, now with gradients. Between nodes travels text, through which no
    #    gradient flows, so every node learns from its own words and from the advantage that all nodes share. Rollouts
    #    with advantage 0 have no gradient, and are not replayed.
    learned = [(call, a) for trace, a in zip(traces, advantages, strict=True) if a != 0 for call in trace.calls]
    if not learned:
        return rewards_PG.mean().item()
    logprobs = network.replay([call for call, _ in learned])

    # 5. REINFORCE: raise the log-probability of what did better than the others, and lower that of what did worse. The
    #    sum over tokens is not divided by a message's length, which would bias the gradient towards short messages.
    loss = -sum(a * logprob.sum() for (_, a), logprob in zip(learned, logprobs, strict=True)) / len(traces)
    optimizer.zero_grad()
    loss.backward()

    # 6. Clip the gradient of each node on its own: a node with a large gradient must not slow the others down. The
    #    tensors of the bank hold the adapters of all nodes, one after the other along their first axis.
    scale_N = (clip / network.adapters.gradient_norms()).clamp(max=1.0)
    for stack in network.adapters.stacks():
        stack.grad.mul_(scale_N.view(-1, 1, 1))
    optimizer.step()
    return rewards_PG.mean().item()


def main(steps: int = 60, questions: int = 8, rollouts: int = 8, test: int = 256) -> nm.Network:
    """Train a network and measure it on questions that it never saw; returns it."""
    network, task = build()
    # On policy every batch is used once, so this is plain AdamW, with a shorter memory of squares than is usual.
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0)
    # The floors of a result say what can be scored without understanding anything: print them beside every accuracy.
    print(nm.evaluate(network, task, "test", test))

    pool = task.questions("train")  # thousands, so nothing is asked twice here
    for step in range(1, steps + 1):
        batch = pool[(step - 1) * questions : step * questions]
        reward = train_step(network, optimizer, task, batch, rollouts=rollouts, seed=step)
        print(f"step {step}: reward {reward:.2f}")

    print(nm.evaluate(network, task, "test", test))
    # One question, and everything that was said on the way to its answer.
    print(network.answer(task.questions("test")[:1])[0])
    return network


if __name__ == "__main__":
    main()
