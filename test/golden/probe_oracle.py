"""Golden numbers of the linear probe and of the metrics, from scikit-learn (made with 1.9.1).

    python3 probe_oracle.py > probe-expected.json     # needs scikit-learn and numpy
"""

import json
import warnings

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

warnings.simplefilter("ignore")


def regression_case(name, label_count, c, seed, n=80, d=6):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % label_count
    centres = rng.normal(size=(label_count, d))
    x = np.round(centres[labels] * 0.8 + rng.normal(size=(n, d)), 4)
    new = np.round(rng.normal(size=(12, d)) * 1.5, 4)
    return fitted_case(name, label_count, c, labels, x, new)


def redundant_case(name, label_count, c, seed, n, d, rank):
    """Entries that are mixtures of a few causes, as those of an encoder are: the minimum lies in a long narrow valley."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % label_count
    centres = rng.normal(size=(label_count, rank))
    mixing = rng.normal(size=(rank, d))

    def mixed(causes):
        return np.round(causes @ mixing / np.sqrt(rank) + 0.05 * rng.normal(size=(len(causes), d)), 2)

    x = mixed(centres[labels] * 0.6 + rng.normal(size=(n, rank)))
    return fitted_case(name, label_count, c, labels, x, mixed(rng.normal(size=(12, rank)) * 1.2))


def fitted_case(name, label_count, c, labels, x, new):
    model = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(x, labels)
    return {
        "name": name,
        "labelCount": label_count,
        "inverseRegularisation": c,
        "rows": x.tolist(),
        "labels": labels.tolist(),
        "coefficients": model.coef_.tolist(),
        "intercepts": model.intercept_.tolist(),
        "newRows": new.tolist(),
        "newProbabilities": model.predict_proba(new).tolist(),
    }


def metrics_case(name, label_count, present, seed, digits):
    """`digits` of the scores are few in one case, so that there are many ties."""
    rng = np.random.default_rng(seed)
    n = 120
    truth = rng.choice(present, size=n)
    scores = rng.random((n, label_count)) * 0.7
    scores[np.arange(n), truth] += 0.35
    scores = np.round(scores / scores.sum(axis=1, keepdims=True), digits)
    every = list(range(label_count))
    # Argmax of the rounded scores, but never label `absent`, so that it is absent from prediction too.
    allowed = scores.copy()
    for label in every:
        if label not in present:
            allowed[:, label] = -1
    predicted = allowed.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    aurocs = [float(roc_auc_score(truth == label, scores[:, label])) for label in present]
    return {
        "name": name,
        "labelCount": label_count,
        "truth": truth.tolist(),
        "predicted": predicted.tolist(),
        "scores": scores.tolist(),
        "accuracy": accuracy_score(truth, predicted),
        "balancedAccuracy": balanced_accuracy_score(truth, predicted),
        "macroF1": f1_score(truth, predicted, average="macro", zero_division=0),
        "macroAuroc": float(np.mean(aurocs)),
        "labelAurocs": {str(label): value for label, value in zip(present, aurocs)},
        "confusionMatrix": confusion_matrix(truth, predicted, labels=every).tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
    }


def resample_case(seed):
    """A table in which labels are absent from truth, prediction or both, and whole images are drawn several times or not."""
    rng = np.random.default_rng(seed)
    label_count = int(rng.integers(2, 9))
    n = int(rng.integers(6, 30))
    truth = rng.choice(rng.choice(label_count, size=max(2, label_count // 2), replace=False), size=n)
    truth[:2] = [0, 1]
    scores = np.round(rng.random((n, label_count)), 3)
    scores[:, rng.integers(label_count)] = 0.0  # Never predicted.
    counts = rng.integers(0, 3, size=n)
    counts[:2] = 1
    drawn = np.repeat(np.arange(n), counts)

    def measured(images):
        t, p = truth[images], scores[images].argmax(axis=1)
        sided = [label for label in range(label_count) if 0 < (t == label).sum() < len(t)]
        return {
            "macroF1": f1_score(t, p, average="macro", zero_division=0),
            "balancedAccuracy": balanced_accuracy_score(t, p),
            "accuracy": accuracy_score(t, p),
            "macroAuroc": float(np.mean([roc_auc_score(t == label, scores[images, label]) for label in sided])),
        }

    return {
        "labelCount": label_count,
        "truth": truth.tolist(),
        "scores": scores.tolist(),
        "counts": counts.tolist(),
        "values": measured(np.arange(n)),
        "resampled": measured(drawn),
    }


print(
    json.dumps(
        {
            "madeWith": f"scikit-learn {sklearn.__version__}",
            "regressions": [
                regression_case("two labels", 2, 0.7, 1),
                regression_case("four labels", 4, 1.0, 2),
                regression_case("four labels, held back", 4, 0.01, 3),
                redundant_case("eight labels, redundant entries", 8, 1.0, 7, n=240, d=24, rank=5),
                regression_case("three labels, nearly free", 3, 50.0, 4),
                regression_case("fewer images than entries", 3, 1.0, 9, n=24, d=120),
                regression_case("fewer images than entries, two labels", 2, 0.05, 10, n=20, d=120),
            ],
            "metrics": [
                metrics_case("three labels", 3, [0, 1, 2], 5, 6),
                metrics_case("ties", 4, [0, 1, 2, 3], 6, 1),
                metrics_case("a label that never occurs", 4, [0, 1, 3], 7, 6),
                metrics_case("two labels", 2, [0, 1], 8, 6),
            ],
            "resamples": [resample_case(seed) for seed in range(20, 40)],
        }
    )
)
