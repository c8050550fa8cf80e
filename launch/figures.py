"""Pictures of a run or of a sweep. Each function draws one of a `Series` and gives a matplotlib figure, or nothing where there is nothing to draw."""
import dataclasses

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NO_LINK = "none"
COLOURS = ["#4477aa", "#ee7733", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#cc3311", "#777777"]  # of ubatches and of series
TERMS = {"compute": "#4477aa", "split_tax": "#ccbb44", "sms_left_out": "#887722", "launch_gaps": "#44aa99", "contention": "#aa3377", "after_exchange": "#dd99bb",
         "exposed_moving": "#ee7733", "exposed_waiting": "#cc3311",
         "hand_off": "#228833", "launch": "#88ccee", "other_idle": "#777777", "recording": "#dddddd", "timed_vs_profiled": "#aaaaaa", "unexplained": "#9966cc"}
LEAST_SHOWN_MS = 0.0005  # what a table of `dovetail compare` does not print as 0.000
SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "dovetail", "font.size": 9, "font.sans-serif": ["DejaVu Sans"]}


@dataclasses.dataclass(frozen=True)
class Look:
    """`width` in inches; `titled`: with what was run as title, for a picture that stands alone."""

    width: float = 7
    titled: bool = True


def title_of(what, policies):
    links = sorted({policy.link for policy in policies})
    emulated = [link for link in links if link != NO_LINK]
    note = "" if not emulated else f"\nlink {links[0]}" if len(links) == 1 else "\nlink emulated in part: " + "; ".join(emulated)
    settings = sorted({policy.setting for policy in policies})
    return f"{policies[0].experiment}: {what}\n{'; '.join(settings)}{note}"


def new_axes(width, height, rows=1):
    figure, axes = plt.subplots(rows, 1, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, [row[0] for row in axes]


def bar_axes(labels, look, grown=0.0):
    """Axes with a horizontal bar for each label, the first on top. Returns (figure, axes, positions)."""
    figure, (axes,) = new_axes(look.width, 0.9 + 0.36 * len(labels) + 0.5 * look.titled + grown)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    return figure, axes, range(len(labels))


def finish(axes, look, what, policies):
    if look.titled:
        axes.set_title(title_of(what, policies), fontsize="medium")


def scale_x(axes, series, places, *scales):
    """A wide sweep is drawn on logarithmic axes, its places named."""
    if min(places) > 0 and max(places) >= 8 * min(places):
        for scale in scales:
            scale("log", base=2)
        named = sorted(set(places))
        axes.set_xticks(named, [f"{place:g}" for place in named], fontsize="small", rotation=45 if len(named) > 8 else 0)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(series.x_label)
    axes.legend(fontsize="small")


def draw_lines(axes, series, rows_of):
    """A line with its band for each label. `rows_of(policy)`: (low, middle, high), or nothing. Returns the places on the x axis."""
    places = []
    for number, (label, policies) in enumerate(series.valid().items()):
        rows = sorted((series.x_of(policy), *rows_of(policy)) for policy in policies if rows_of(policy) is not None)
        if not rows:
            continue
        colour = COLOURS[number % len(COLOURS)]
        x, low, middle, high = map(np.array, zip(*rows))
        axes.plot(x, middle, "o-", color=colour, label=label, markersize=4)
        if (low < high).any():
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        places += list(x)
    axes.grid(alpha=0.3)
    return places


def draw_interval(axes, place, low, high, colour):
    """As it is printed: what it belongs to may lie outside, as a median may of the interval of a mean over rounds."""
    if low < high:
        axes.errorbar((low + high) / 2, place, xerr=(high - low) / 2, fmt="none", ecolor=colour, capsize=4)


def draw_bars(series, look, rows_of, grown=0.0):
    """A bar with its range for each policy of a run. Returns (axes, policies), or nothing."""
    rows = {label: (policies[0], rows_of(policies[0])) for label, policies in series.valid().items()}
    rows = {label: row for label, row in rows.items() if row[1] is not None}
    if not rows:
        return None
    figure, axes, places = bar_axes(list(rows), look, grown)
    for number, (place, (_, (low, middle, high))) in enumerate(zip(places, rows.values())):
        axes.barh(place, middle, color=COLOURS[number % len(COLOURS)], height=0.6)
        draw_interval(axes, place, low, high, plt.rcParams["text.color"])
    return figure, axes, [policy for policy, _ in rows.values()]


def step_time_row(policy):
    """(low, median, high) in ms; the same number three times without an interval."""
    times = policy.summary.get("step_ns")
    if times is None:
        return None
    low, high = policy.summary.get("step_ns_interval") or (times["p50"],) * 2
    return low / 1e6, times["p50"] / 1e6, high / 1e6


def plot_step_time(series, look=Look()):
    """Median step time, with the 95 % interval of this run."""
    policies = [policy for policy in sum(series.valid().values(), []) if step_time_row(policy)]
    if not policies:
        return None
    label = "step time [ms]: median, 95 % interval of this run"
    if series.is_sweep:
        figure, (axes,) = new_axes(look.width, 0.6 * look.width)
        places = draw_lines(axes, series, step_time_row)
        scale_x(axes, series, places, axes.set_xscale, axes.set_yscale)
        axes.set_ylabel(label)
    else:
        figure, axes, policies = draw_bars(series, look, step_time_row)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    finish(axes, look, "step time", policies)
    return figure


def speed_up_row(policy):
    """(low, speed-up, high); the same number three times without an interval."""
    summary = policy.summary
    if summary.get("speed_up") is None:
        return None
    low, high = summary.get("speed_up_interval") or (summary["speed_up"],) * 2
    return low, summary["speed_up"], high


def plot_speed_up(series, look=Look()):
    """Speed-up over the baseline, with the 95 % interval of this run."""
    policies = [policy for policy in sum(series.valid().values(), []) if speed_up_row(policy)]
    if not policies:
        return None
    label = "speed-up, 95 % interval of this run"
    if series.is_sweep:
        figure, (axes,) = new_axes(look.width, 0.6 * look.width)
        places = draw_lines(axes, series, speed_up_row)
        scale_x(axes, series, places, axes.set_xscale)
        axes.set_ylabel(label)
        axes.axhline(1, color=plt.rcParams["text.color"], linewidth=1, linestyle="--")
        axes.set_ylim(bottom=0)
    else:
        figure, axes, places = bar_axes(list(series.valid()), look)
        for place, (number, line) in zip(places, enumerate(series.valid().values())):
            row = speed_up_row(line[0])
            if row:
                low, middle, high = row
                axes.plot(middle, place, "o", color=COLOURS[number % len(COLOURS)])
                draw_interval(axes, place, low, high, COLOURS[number % len(COLOURS)])
        axes.axvline(1, color=plt.rcParams["text.color"], linewidth=1, linestyle="--")
        axes.set_xlabel(label)
    finish(axes, look, "speed-up", policies)
    return figure


def hidden_share_row(policy):
    share = policy.hidden_share()
    return None if share is None else (100 * share,) * 3


def plot_hidden_share(series, look=Look()):
    policies = [policy for policy in sum(series.valid().values(), []) if policy.hidden_share() is not None]
    if not policies:
        return None
    label = "hidden share of moving [%]"
    if series.is_sweep:
        figure, (axes,) = new_axes(look.width, 0.52 * look.width)
        scale_x(axes, series, draw_lines(axes, series, hidden_share_row), axes.set_xscale)
        axes.set_ylabel(label)
        axes.set_ylim(0, 105)
    else:
        figure, axes, policies = draw_bars(series, look, hidden_share_row)
        axes.set_xlabel(label)
        axes.set_xlim(0, 105)
    finish(axes, look, "share of the exchange beside which a rank computes", policies)
    return figure


def last_of_each(series):
    """The policy of each line that has most tokens, {label: policy}."""
    return {label: max(policies, key=lambda policy: policy.tokens()) for label, policies in series.valid().items()}


def terms_of(found):
    """The terms in the order of `dovetail compare`; those that it may have beside them last."""
    return [term for term in TERMS if term in found] + [term for term in found if term not in TERMS]


def shown_terms(policies):
    """The terms that a bar of one of the policies has."""
    lengths = [policy.summary["metrics"]["terms_ns"] for policy in policies]
    return [term for term in terms_of(lengths[0]) if any(abs(one.get(term) or 0) / 1e6 >= LEAST_SHOWN_MS for one in lengths)]


def plot_terms(series, look=Look()):
    """Where the step goes: the terms of `dovetail compare`, stacked, negative ones to the left of 0; marks at the p50 and at the ideal."""
    chosen = {label: policy for label, policy in last_of_each(series).items() if policy.summary["metrics"]}
    if not chosen:
        return None
    figure, axes, places = bar_axes(list(chosen), look, 0.9)
    ink = plt.rcParams["text.color"]
    terms = shown_terms(chosen.values())
    marks = {"p50": {"marker": "d", "color": ink}, "ideal": {"marker": "v", "color": ink, "fillstyle": "none"}}
    for place, policy in zip(places, chosen.values()):
        ends = {True: 0.0, False: 0.0}
        metrics = policy.summary["metrics"]
        for term in terms:
            length = (metrics["terms_ns"].get(term) or 0) / 1e6  # null: not known
            axes.barh(place, length, left=ends[length < 0], color=TERMS.get(term, "#999999"), height=0.6)
            ends[length < 0] += length
        for name, length in (("p50", metrics["measured_ns"]), ("ideal", metrics["ideal_ns"])):
            axes.plot(length / 1e6, place - 0.38, linestyle="none", markersize=6, **marks[name])
    handles = [plt.Rectangle((0, 0), 1, 1, color=TERMS.get(term, "#999999")) for term in terms]
    handles += [plt.Line2D([], [], linestyle="none", **look_of) for look_of in marks.values()]
    names = [term.replace("_", " ").replace("hand off", "hand-off") for term in terms]
    axes.legend(handles, names + list(marks), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, fontsize="small", frameon=False)
    axes.axvline(0, color=ink, linewidth=1)
    axes.set_xlabel("terms of the step time [ms]: they add up to the p50")
    return figure
