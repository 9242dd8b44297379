"""The two pictures of every candidate in MLflow."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

mpl.use("Agg")
INK, FRAUD, GENUINE, GRID = "#1f2933", "#c2410c", "#3b6ea5", "#d9dee4"


def precision_recall(fraud: NDArray[np.integer], score: NDArray[np.floating], title: str) -> Figure:
    """Precision over recall, with the fraud rate as the line that any useful score is above."""
    precision, recall, _ = precision_recall_curve(fraud, score)
    figure, axes = _axes(title, "recall", "precision")
    axes.step(recall, precision, where="post", color=GENUINE, linewidth=1.8)
    rate = float(np.mean(fraud))
    axes.axhline(rate, color=FRAUD, linewidth=1, linestyle="--")
    label = f"fraud rate {rate:.2%}"  # on the left, where the curve is high
    axes.annotate(label, (0.01, rate), xytext=(0, 4), textcoords="offset points", color=FRAUD)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def score_histogram(fraud: NDArray[np.integer], score: NDArray[np.floating], title: str) -> Figure:
    """How the scores of frauds and of genuine transactions are spread; counts on a log scale, frauds are rare."""
    figure, axes = _axes(title, "score", "transactions (log scale)")
    bins = np.linspace(0, 1, 41).tolist()
    axes.hist(score[fraud == 0], bins=bins, color=GENUINE, alpha=0.75, label="genuine")
    axes.hist(score[fraud == 1], bins=bins, color=FRAUD, alpha=0.75, label="fraud")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def _axes(title: str, x: str, y: str) -> tuple[Figure, mpl.axes.Axes]:
    figure = Figure(figsize=(6.4, 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, color=INK, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
