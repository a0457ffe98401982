"""Do siblings (nodes of one layer) say different things? In bits, beside what chance and the untrained network give.

Who wrote a message is guessed from its words alone, by naive Bayes fitted to other questions. The mutual information
between the writer and the guess is at most that between the writer and the message (data processing), so it is a lower
bound that needs no embedding: 0 bits where siblings cannot be told apart, log2 k where k of them always can. The null
distribution deals the labels out anew among the siblings of each question and fits again.

Legend: R message (question-major: all siblings of a question stand together), K sibling, V token, P question.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neuromas.evaluate.stats import Floats

Ints = npt.NDArray[np.int64]

FOLDS, PERMUTATIONS, RESAMPLES = 5, 200, 2000
VOCABULARY = 2000  # commonest tokens that are looked at
MARKS = 3  # tokens shown for each sibling
_TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


@dataclass(frozen=True)
class Distinctness:
    """Of one layer's siblings."""

    bits: float  # mutual information of writer and guess, bias-corrected; may be below 0
    ci95: tuple[float, float]  # bootstrap over questions
    most: float  # log2 of the number of siblings
    guessed: float  # share of messages whose writer is guessed; chance is 1 / siblings
    null_mean: float  # of bits with random labels …
    null_95: float  # … the 95th percentile …
    p: float  # … and the share that is at least as high, the one observed among them
    same: float  # share of pairs of siblings that write the same text, of all pairs on all questions
    marks: list[list[str]]  # for each sibling the tokens that tell most for it


def distinctness(texts: Sequence[Sequence[str]], seed: int = 0) -> Distinctness:
    """texts: for each question the messages of the siblings, in one order. Raises ValueError for fewer than FOLDS."""
    P, K = len(texts), len(texts[0])
    if P < FOLDS:
        raise ValueError(f"{P} questions cannot be divided into {FOLDS} parts")
    counts_RV, vocabulary = count_tokens([text for row in texts for text in row])
    fold_R = np.repeat(np.arange(P) % FOLDS, K)
    writer_PK = np.tile(np.arange(K), (P, 1))
    guess_PK = guess(counts_RV, writer_PK.ravel(), fold_R, K).reshape(P, K)
    rng = np.random.default_rng([seed, 4])
    null: list[float] = []
    for _ in range(PERMUTATIONS):
        dealt_R = rng.permuted(writer_PK, axis=1).ravel()
        null.append(information(dealt_R, guess(counts_RV, dealt_R, fold_R, K), K))
    spread: list[float] = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, P, P)
        spread.append(information(writer_PK[drawn].ravel(), guess_PK[drawn].ravel(), K))
    bits = information(writer_PK.ravel(), guess_PK.ravel(), K)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Distinctness(
        bits=bits,
        ci95=(float(low), float(high)),
        most=float(np.log2(K)),
        guessed=float((guess_PK == writer_PK).mean()),
        null_mean=float(np.mean(null)),
        null_95=float(np.quantile(null, 0.95)),
        p=(1 + sum(x >= bits - 1e-12 for x in null)) / (1 + PERMUTATIONS),
        same=same_share(texts),
        marks=marks(counts_RV, writer_PK.ravel(), vocabulary, K),
    )


def tokens(text: str) -> list[str]:
    """Words, digits and signs in lower case; the first one a second time, marked: messages differ in how they begin."""
    found = _TOKEN.findall(text.lower())
    return [f"^{found[0]}", *found] if found else ["^"]


def count_tokens(texts: Sequence[str]) -> tuple[Floats, list[str]]:
    """How often each text holds each of the commonest tokens [R, V], and the tokens."""
    split = [tokens(text) for text in texts]
    common = Counter(token for row in split for token in row).most_common(VOCABULARY)
    place = {token: v for v, (token, _) in enumerate(common)}
    counts_RV = np.zeros((len(texts), len(place)))
    for r, row in enumerate(split):
        for token in row:
            if token in place:
                counts_RV[r, place[token]] += 1
    return counts_RV, list(place)


def guess(counts_RV: Floats, writer_R: Ints, fold_R: Ints, K: int) -> Ints:
    """The writer of each message by multinomial naive Bayes (add-one smoothing), fitted without the message's fold."""
    totals = np.zeros((FOLDS, K, counts_RV.shape[1]))
    for fold in range(FOLDS):
        for k in range(K):
            totals[fold, k] = counts_RV[(fold_R == fold) & (writer_R == k)].sum(0)
    others = totals.sum(0) - totals + 1.0  # [FOLDS, K, V]
    weight = np.log(others / others.sum(2, keepdims=True))
    found = np.empty(len(counts_RV), np.int64)
    for fold in range(FOLDS):
        found[fold_R == fold] = (counts_RV[fold_R == fold] @ weight[fold].T).argmax(1)
    return found


def information(writer_R: Ints, guess_R: Ints, K: int) -> float:
    """Mutual information in bits of two labels, less the bias of the plain estimate (Miller and Madow 1955)."""
    joint = np.bincount(writer_R * K + guess_R, minlength=K * K).reshape(K, K) / len(writer_R)
    rows, columns = joint.sum(1), joint.sum(0)
    seen = joint > 0
    plain = float((joint[seen] * np.log2(joint[seen] / np.outer(rows, columns)[seen])).sum())
    freedom = ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1)
    return plain - float(freedom) / (2 * len(writer_R) * np.log(2))


def same_share(texts: Sequence[Sequence[str]]) -> float:
    """Share of pairs of siblings that wrote the same text but for case and blanks."""
    K, same = len(texts[0]), 0
    for row in texts:
        same += sum(n * (n - 1) for n in Counter(" ".join(text.lower().split()) for text in row).values())
    return same / (len(texts) * K * (K - 1))


def marks(counts_RV: Floats, writer_R: Ints, vocabulary: Sequence[str], K: int) -> list[list[str]]:
    """For each writer the tokens whose share in its messages exceeds most that in the others', by their difference."""
    has_KV = np.stack([(counts_RV[writer_R == k] > 0).mean(0) for k in range(K)])
    words, out = list(vocabulary), list[list[str]]()
    for k in range(K):
        lead = has_KV[k] - np.delete(has_KV, k, 0).max(0)
        out.append([words[v] for v in np.argsort(-lead, kind="stable")[:MARKS] if lead[v] > 0.2])
    return out


def as_dict(layer: int, nodes: Sequence[str], found: Distinctness) -> dict[str, Any]:
    return {"layer": layer, "nodes": list(nodes), **vars(found)}
