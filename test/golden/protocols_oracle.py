"""Golden numbers of the protocols from scikit-learn and SciPy (made with 1.9.1 and 1.17.1): what they choose on inner folds by group, and what
they then say of images of other groups.

    python3 protocols_oracle.py > protocols-expected.json     # needs scikit-learn, scipy and numpy

Every training part has three groups, so that three folds by group can only be the groups themselves.
"""

import json
import warnings

import numpy as np
import scipy
import scipy.stats
import sklearn
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, log_loss, mean_absolute_error, r2_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

warnings.simplefilter("ignore")

CS = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10]
KS = [1, 3, 5, 11, 21, 51]
ALPHA_SHARES = [0.003, 0.03, 0.3, 3]
ALPHAS = [1e-1, 1, 1e1, 1e2, 1e3, 1e4, 1e5]


def problem(seed, label_count, spread, d=12, per_group=24):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(5), per_group)  # the last two are tested
    labels = np.arange(len(groups)) % label_count
    centres = rng.normal(size=(label_count, d))
    shift = rng.normal(size=(5, d)) * 0.3
    x = centres[labels] * spread + shift[groups] + rng.normal(size=(len(groups), d))
    x = np.round(x * np.linspace(0.5, 20, d) + 3, 3)
    return x.astype(np.float32).astype(np.float64), labels, groups


def scaled(train, *others):
    scaler = StandardScaler().fit(train)
    return [scaler.transform(part) for part in (train, *others)]


def uneven_problem(seed, d=12, per_group=30):
    """Slide 0 holds nearly all images of label 2, and every slide has a strong cast of its own: each fit is confidently wrong about some slide."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(5), per_group)
    labels = np.concatenate([rng.choice(3, per_group, p=p) for p in ([0.1, 0.1, 0.8], [0.45, 0.45, 0.1], [0.45, 0.45, 0.1], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4])])
    centres = rng.normal(size=(3, d))
    cast = rng.normal(size=(5, d)) * 3
    x = np.round(centres[labels] + cast[groups] + rng.normal(size=(len(groups), d)), 3)
    return x.astype(np.float32).astype(np.float64), labels, groups


def linear_case(name, label_count, x, y, g):
    """The C of the highest macro F1 over the pooled predictions of the inner folds; of equal ones the C of the least cross-entropy."""
    train, test = g < 3, g >= 3
    losses, scores = [], []
    for c in CS:
        total, truth, said = 0.0, [], []
        for fold in range(3):
            learned, held = train & (g != fold), train & (g == fold)
            a, b = scaled(x[learned], x[held])
            model = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(a, y[learned])
            total += log_loss(y[held], model.predict_proba(b), labels=np.arange(label_count), normalize=False)
            truth += y[held].tolist()
            said += model.predict(b).tolist()
        losses.append(total)
        scores.append(f1_score(truth, said, average="macro", zero_division=0))
    c = CS[min(range(len(CS)), key=lambda index: (-scores[index], losses[index]))]
    a, b = scaled(x[train], x[test])
    model = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(a, y[train])
    return dict(name=name, labelCount=label_count, rows=x.tolist(), labels=y.tolist(), groups=g.tolist(),
                chosen=c, probabilities=model.predict_proba(b).tolist(), innerScores=scores, innerLosses=losses)


def neighbour_case(name, seed, label_count, spread):
    x, y, g = problem(seed, label_count, spread)
    train, test = g < 3, g >= 3
    every = list(range(label_count))
    usable = [k for k in KS if k <= 48]
    scores = []
    for k in usable:
        truth, said = [], []
        for fold in range(3):
            learned, held = train & (g != fold), train & (g == fold)
            # The first of the most frequent labels, as ours: predict() would choose the same.
            shares = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(x[learned], y[learned]).predict_proba(x[held])
            truth += y[held].tolist()
            said += shares.argmax(axis=1).tolist()
        scores.append(f1_score(truth, said, average="macro", zero_division=0))
    k = usable[int(np.argmax(scores))]
    shares = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(x[train], y[train]).predict_proba(x[test])
    return dict(name=name, labelCount=label_count, rows=x.tolist(), labels=y.tolist(), groups=g.tolist(), chosen=k, probabilities=shares.tolist(), innerScores=scores)


def ridge_case(name, seed, d, per_group, noise):
    x, _, g = problem(seed, 2, 0.0, d=d, per_group=per_group)
    rng = np.random.default_rng(seed + 1)
    y = np.round(StandardScaler().fit_transform(x) @ rng.normal(size=d) + noise * rng.normal(size=len(x)) + 40, 3)
    train, test = g < 3, g >= 3
    losses = []
    for alpha in ALPHAS:
        total = 0.0
        for fold in range(3):
            learned, held = train & (g != fold), train & (g == fold)
            a, b = scaled(x[learned], x[held])
            total += float(((Ridge(alpha=alpha).fit(a, y[learned]).predict(b) - y[held]) ** 2).sum())
        losses.append(total)
    alpha = ALPHAS[int(np.argmin(losses))]
    a, b = scaled(x[train], x[test])
    said = Ridge(alpha=alpha).fit(a, y[train]).predict(b)
    return dict(name=name, rows=x.tolist(), targets=y.tolist(), groups=g.tolist(), chosen=alpha, predicted=said.tolist(), innerLosses=losses,
                meanAbsoluteError=mean_absolute_error(y[test], said), spearmanCorrelation=float(scipy.stats.spearmanr(y[test], said).statistic), rSquared=r2_score(y[test], said))


def ridge_classifier_case(name, seed, label_count, spread, d=12, per_group=24):
    """RidgeClassifier's regressions of +1 and -1; the penalty is a share of the images that are learned from."""
    x, y, g = problem(seed, label_count, spread, d=d, per_group=per_group)
    train, test = g < 3, g >= 3
    every = list(range(label_count))
    signs = np.where(y[:, None] == np.arange(label_count)[None, :], 1.0, -1.0)
    fit = lambda share, learned, held: (lambda a, b: Ridge(alpha=share * learned.sum()).fit(a, signs[learned]).predict(b))(*scaled(x[learned], x[held]))
    scores = []
    for share in ALPHA_SHARES:
        truth, said = [], []
        for fold in range(3):
            learned, held = train & (g != fold), train & (g == fold)
            truth += y[held].tolist()
            said += fit(share, learned, held).argmax(axis=1).tolist()
        scores.append(f1_score(truth, said, labels=every, average="macro", zero_division=0))
    share = ALPHA_SHARES[int(np.argmax(scores))]
    powers = np.exp(fit(share, train, test))
    return dict(name=name, labelCount=label_count, rows=x.tolist(), labels=y.tolist(), groups=g.tolist(), chosen=share * int(train.sum()),
                probabilities=(powers / powers.sum(axis=1, keepdims=True)).tolist(), innerScores=scores)


def numbers_case(name, seed, digits):
    """Few digits give many ties; the repeats are those of a bootstrap resample."""
    rng = np.random.default_rng(seed)
    truth = np.round(rng.normal(size=40), digits)
    said = np.round(truth * 0.6 + rng.normal(size=40) * 0.7, digits)
    repeats = rng.integers(0, 4, size=40)
    t, s = np.repeat(truth, repeats), np.repeat(said, repeats)
    measure = lambda t, s: dict(meanAbsoluteError=mean_absolute_error(t, s), spearmanCorrelation=float(scipy.stats.spearmanr(t, s).statistic), rSquared=r2_score(t, s))
    return dict(name=name, truth=truth.tolist(), predicted=said.tolist(), once=measure(truth, said), repeats=repeats.tolist(), repeated=measure(t, s))


print(json.dumps(dict(
    madeWith=f"scikit-learn {sklearn.__version__}, SciPy {scipy.__version__}",
    linearProbes=[linear_case("two labels", 2, *problem(1, 2, 0.4)), linear_case("four labels", 4, *problem(2, 4, 0.7)), linear_case("hard labels", 3, *problem(3, 3, 0.15)),
                  linear_case("a label of mostly one slide", 3, *uneven_problem(23))],
    nearestNeighbours=[neighbour_case("two labels", 4, 2, 0.5), neighbour_case("four labels", 5, 4, 0.8), neighbour_case("hard labels", 6, 3, 0.2)],
    ridgeClassifiers=[ridge_classifier_case("two labels", 12, 2, 0.4), ridge_classifier_case("four labels", 13, 4, 0.5), ridge_classifier_case("more entries than rows", 14, 3, 0.5, d=60, per_group=10)],
    ridges=[ridge_case("more rows than entries", 7, 12, 24, 2.0), ridge_case("more entries than rows", 8, 90, 8, 4.0), ridge_case("noise alone", 9, 6, 12, 60.0)],
    numbers=[numbers_case("no ties", 10, 6), numbers_case("many ties", 11, 0)],
)))
