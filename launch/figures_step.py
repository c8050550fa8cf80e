"""Pictures of what happens within a step: the timeline of a profiled step, and what the exchange carries to which expert."""
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from figures import COLOURS, Look, bar_axes, last_of_each, new_axes, title_of
from result_files import counted

PAGE = "#ffffff"  # between bars
SHORT = {"embed": "emb", "attention": "att", "route": "rou", "dispatch": "dis", "experts": "exp", "shared_experts": "sha", "combine": "com",
         "mlp": "mlp", "output": "out"}
WAITING = {"facecolor": "none", "hatch": "/////"}  # of an exchange: for the last rank


def draw_step(axes, ranks, limit_ms):
    """Two rows a rank, compute over comm; a bar an op, coloured by ubatch, and hatched while an exchange waits for the last rank."""
    bars = {}  # one path for all bars that look alike: small files
    for rank, ops in enumerate(ranks):
        for op, start, moving, end in ops:
            row = 2 * rank + (op["lane"] == "comm")
            bars.setdefault((row, op["ubatch"], False), []).append((moving, end - moving))
            if moving > start:
                bars.setdefault((row, op["ubatch"], True), []).append((start, moving - start))
            share = (end - moving) / limit_ms
            label = op["phase"] if share > 0.011 * len(op["phase"]) else SHORT.get(op["phase"], "") if share > 0.022 else ""
            if label:
                axes.text((moving + end) / 2, row, label, ha="center", va="center", fontsize=6)
    for (row, ubatch, is_waiting), spans in bars.items():
        boxes = [Outline([(start, row - 0.42), (start + length, row - 0.42), (start + length, row + 0.42), (start, row + 0.42), (start, row)],
                         closed=True) for start, length in spans]
        colour = COLOURS[ubatch % len(COLOURS)]
        look = {**WAITING, "edgecolor": colour} if is_waiting else {"facecolor": colour, "edgecolor": PAGE, "alpha": 0.55 if row % 2 else 0.9}
        axes.add_patch(PathPatch(Outline.make_compound_path(*boxes), linewidth=0.4, **look))
    axes.set_yticks(range(2 * len(ranks)), [f"rank {rank} {lane}" for rank in range(len(ranks)) for lane in ("compute", "comm")], fontsize=7)
    axes.set_ylim(2 * len(ranks) - 0.5, -0.5)


def plot_timeline(series, num_layers, look=Look(width=11)):
    """One step of each series, at its largest number of tokens, to the same scale."""
    chosen = last_of_each(series)
    steps, all_layers = {}, 0
    for label, policy in chosen.items():
        ranks = policy.profiled_step()
        if ranks is None:
            continue
        all_layers = max([all_layers] + [op["layer"] + 1 for rank in ranks for op, *_ in rank])
        shown = [[one for one in rank if one[0]["layer"] < num_layers and (one[0]["phase"] != "output" or all_layers <= num_layers)]
                 for rank in ranks]
        steps[label] = shown
    if not steps:
        return None
    limit_ms = max(end for ranks in steps.values() for rank in ranks for *_, end in rank)
    rows = sum(2 * len(ranks) for ranks in steps.values())
    figure, all_axes = new_axes(look.width, 1 + 0.34 * rows + 0.45 * len(steps), len(steps))
    for axes, (label, ranks) in zip(all_axes, steps.items()):
        draw_step(axes, ranks, limit_ms)
        axes.set_xlim(0, limit_ms)
        axes.set_title(f"{label}, {counted(chosen[label].tokens(), 'token')}", fontsize="small", loc="left")
    num_ubatches = 1 + max(op["ubatch"] for ranks in steps.values() for rank in ranks for op, *_ in rank)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[ubatch % len(COLOURS)]) for ubatch in range(num_ubatches)]
    labels = [f"ubatch {ubatch}" for ubatch in range(num_ubatches)]
    if any(moving > start for ranks in steps.values() for rank in ranks for _, start, moving, _ in rank):
        handles.append(plt.Rectangle((0, 0), 1, 1, edgecolor=plt.rcParams["text.color"], **WAITING))
        labels.append("waiting for the last rank")
    all_axes[-1].set_xlabel("time [ms]")
    # Below the last axes, as an artist of theirs: the layout then leaves room for it, also in old releases of matplotlib.
    all_axes[-1].legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.35), ncol=8,
                        fontsize="small")
    layers = f"layers 0 to {num_layers - 1} of {all_layers}" if num_layers < all_layers else "all layers"
    if look.titled:
        figure.suptitle(title_of(f"one profiled step of each policy, {layers}", list(chosen.values())), fontsize="medium")
    return figure


def plot_traffic(series, look=Look()):
    """Wire bytes of dispatch and of combine, of all ranks together, in the last timed iteration."""
    chosen = {label: policy.summary["traffic"] for label, policy in last_of_each(series).items() if policy.summary.get("traffic")}
    if not chosen:
        return None
    figure, axes, places = bar_axes(list(chosen), look, 0.4)
    for place, traffic in zip(places, chosen.values()):
        for number, phase in enumerate(("dispatch", "combine")):
            axes.barh(place + 0.3 * number - 0.15, traffic[f"{phase}_wire_bytes"] / 2**20, height=0.28, color=COLOURS[number],
                      label=phase if place == 0 else None)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=2, fontsize="small", frameon=False)
    axes.set_xlabel("wire bytes of an iteration, all ranks [MiB]")
    return figure


def plot_experts(series, look=Look()):
    """Rows of each expert in each layer over the mean of its layer, of the first policy that has them."""
    for policy in last_of_each(series).values():
        rows = np.array((policy.summary.get("traffic") or {}).get("tokens_per_expert") or [[0]], dtype=float)
        mean = rows.mean(axis=1, keepdims=True)
        if (mean > 0).any():
            break
    else:
        return None
    figure, (axes,) = new_axes(look.width, min(5, 1.4 + 0.16 * len(rows)))
    share = np.divide(rows, mean, out=np.zeros_like(rows), where=mean > 0)
    shown = axes.imshow(share, aspect="auto", cmap="viridis", vmin=0, vmax=max(2.0, share.max()), interpolation="nearest")
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(shown, ax=axes, label="rows / mean")
    return figure
