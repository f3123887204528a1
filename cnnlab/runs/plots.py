"""Pictures of a run, drawn from its metrics.csv."""

from __future__ import annotations

from cnnlab.runs.directory import RunDirectory


def draw_curves(run: RunDirectory) -> None:
    """plots/curves.png: loss, accuracy and learning rate by epoch, the best epoch marked. Nothing without rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = run.read_metrics()
    if not rows:
        return
    best = (run.read_json(run.summary).get("best") or {}).get("epoch")
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, title in zip(figure.subplots(1, 3), ("loss", "accuracy", "lr"), strict=True):
        curves = ["lr"] if title == "lr" else [f"train_{title}", f"valid_{title}"]
        for curve in curves:
            values = [float(row[curve]) if row[curve] else float("nan") for row in rows]
            if any(value == value for value in values):
                axes.plot(epochs, values, marker="o", markersize=3, label=curve.replace("_", " "))
        if best is not None and title != "lr":
            axes.axvline(best, color="grey", linewidth=0.8, linestyle="--", label="best epoch")
        axes.set(title="learning rate" if title == "lr" else title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if title != "lr":
            axes.legend(fontsize=8)
    figure.suptitle(str(run), fontsize=9)
    run.curves.parent.mkdir(parents=True, exist_ok=True)
    partial = run.curves.with_name(".curves.partial.png")
    figure.savefig(partial, dpi=120)
    partial.replace(run.curves)
