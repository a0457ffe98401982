"""The distinctness of siblings (nodes of one layer): bits by which their messages tell them apart.

The writer of a message is guessed from its words alone, by naive Bayes fitted to other questions. The mutual
information between the writer and the guess is at most that between the writer and the message (data processing), so it
is a lower bound that needs no embedding: 0 bits where siblings cannot be told apart, log2 k where k of them always can.
For the null distribution the labels are dealt out anew among the siblings of each question, and the fit is repeated.

Legend: F fold, R message (question-major: all siblings of a question stand together), K sibling, V token, P question.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neuromas.analysis.findings import Distinctness
from neuromas.evaluate.stats import Floats, stream

Labels = npt.NDArray[np.int64]

FOLDS, PERMUTATIONS, RESAMPLES = 5, 200, 2000
VOCABULARY = 2000  # The most tokens that are counted, the commonest ones.
MARKS = 3  # The most tokens shown for each sibling.
_TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]")


def distinctness(texts: Sequence[Sequence[str]], seed: int = 0, *, layer: int, nodes: Sequence[str]) -> Distinctness:
    """The distinctness of a layer's siblings.

    texts: for each question the messages of the siblings, in the order of `nodes`. Raises ValueError for fewer than
    FOLDS questions.
    """
    P, K = len(texts), len(nodes)
    if P < FOLDS:
        raise ValueError(f"{P} questions cannot be divided into {FOLDS} parts")
    counts_RV, vocabulary = count_tokens([text for row in texts for text in row])
    fold_R = np.repeat(np.arange(P) % FOLDS, K)
    writer_PK = np.tile(np.arange(K), (P, 1))
    guess_PK = guess(counts_RV, writer_PK.ravel(), fold_R, K).reshape(P, K)
    rng = stream(seed, 4)
    null: list[float] = []
    for _ in range(PERMUTATIONS):
        dealt_R = rng.permuted(writer_PK, axis=1).ravel()
        null.append(information(dealt_R, guess(counts_RV, dealt_R, fold_R, K), K))
    resampled: list[float] = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, P, P)
        resampled.append(information(writer_PK[drawn].ravel(), guess_PK[drawn].ravel(), K))
    bits = information(writer_PK.ravel(), guess_PK.ravel(), K)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Distinctness(
        layer=layer,
        nodes=list(nodes),
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
    """Words, digits and signs in lower case; the first one comes a second time, marked as the beginning."""
    split = _TOKEN.findall(text.lower())
    return [f"^{split[0]}", *split] if split else ["^"]


def count_tokens(texts: Sequence[str]) -> tuple[Floats, list[str]]:
    """Counts of the commonest tokens in each text [R, V], and these tokens."""
    tokens_R = [tokens(text) for text in texts]
    common = Counter(token for row in tokens_R for token in row).most_common(VOCABULARY)
    place = {token: v for v, (token, _) in enumerate(common)}
    counts_RV = np.zeros((len(texts), len(place)))
    for r, row in enumerate(tokens_R):
        for token in row:
            if token in place:
                counts_RV[r, place[token]] += 1
    return counts_RV, list(place)


def guess(counts_RV: Floats, writer_R: Labels, fold_R: Labels, K: int) -> Labels:
    """The writer of each message [R] by multinomial naive Bayes (add-one smoothing), fitted without its fold."""
    is_of_RG = np.eye(FOLDS * K)[fold_R * K + writer_R]  # G: a fold and a writer
    totals_FKV = (is_of_RG.T @ counts_RV).reshape(FOLDS, K, -1)
    others_FKV = totals_FKV.sum(0) - totals_FKV + 1.0
    weight_FKV = np.log(others_FKV / others_FKV.sum(2, keepdims=True))
    guess_R = np.empty(len(counts_RV), np.int64)
    for fold in range(FOLDS):
        guess_R[fold_R == fold] = (counts_RV[fold_R == fold] @ weight_FKV[fold].T).argmax(1)
    return guess_R


def information(writer_R: Labels, guess_R: Labels, K: int) -> float:
    """Mutual information in bits of two labels, less the bias of the plain estimate (Miller and Madow 1955)."""
    joint = np.bincount(writer_R * K + guess_R, minlength=K * K).reshape(K, K) / len(writer_R)
    rows, columns = joint.sum(1), joint.sum(0)
    seen = joint > 0
    plain = float((joint[seen] * np.log2(joint[seen] / np.outer(rows, columns)[seen])).sum())
    freedom = ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1)
    return plain - float(freedom) / (2 * len(writer_R) * np.log(2))


def same_share(texts: Sequence[Sequence[str]]) -> float:
    """The share of pairs of siblings that wrote the same text, whatever its case and blanks."""
    K, same = len(texts[0]), 0
    for row in texts:
        same += sum(n * (n - 1) for n in Counter(" ".join(text.lower().split()) for text in row).values())
    return same / (len(texts) * K * (K - 1))


def marks(counts_RV: Floats, writer_R: Labels, vocabulary: list[str], K: int) -> list[list[str]]:
    """For each writer the tokens that most exceed in it the largest share of messages of any other writer."""
    share_KV = np.stack([(counts_RV[writer_R == k] > 0).mean(0) for k in range(K)])
    marks_K: list[list[str]] = []
    for k in range(K):
        lead_V = share_KV[k] - np.delete(share_KV, k, 0).max(0)
        first = np.argsort(-lead_V, kind="stable")[:MARKS]
        marks_K.append([vocabulary[v] for v in first if lead_V[v] > 0.2])
    return marks_K
