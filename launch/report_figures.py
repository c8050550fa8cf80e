"""The pictures of a report as SVG within a page: they take the page's colours, so they follow light, dark and print."""
import io
import re

import matplotlib.pyplot as plt

from figures import SETTINGS, Look, plot_hidden_share, plot_speed_up, plot_step_time, plot_terms
from figures_step import PAGE, plot_experts, plot_timeline, plot_traffic

INK = "#010203"  # stands for the page's colour of text
GRID = "#040506"  # ... and for that of its lines
LOOK = Look(width=4.2, titled=False)
PAGE_SETTINGS = {**SETTINGS, "text.color": INK, "axes.edgecolor": GRID, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
                 "grid.color": GRID, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False,
                 "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False}


def page_svg(figure, name):
    """The figure's SVG element with colours of the page and ids that no other figure has."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}, transparent=True)
    plt.close(figure)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", svg)
    svg = svg.replace(INK, "var(--ink)").replace(GRID, "var(--line)").replace(PAGE, "var(--page)")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    opening = f'<svg id="{name}" role="img" viewBox="0 0 {width} {height}" xmlns:xlink="http://www.w3.org/1999/xlink" style="--width: {width}"'
    return re.sub(r"<svg [^>]*", opening, svg, count=1)


def page_figures(series, layers):
    """{name: SVG} of all pictures that the results have."""
    with plt.rc_context(PAGE_SETTINGS):
        figures = {"step_time": plot_step_time(series, LOOK), "speed_up": plot_speed_up(series, LOOK), "terms": plot_terms(series, LOOK),
                   "hidden_share": plot_hidden_share(series, LOOK), "traffic": plot_traffic(series, LOOK), "experts": plot_experts(series, LOOK),
                   "timeline": plot_timeline(series, layers, Look(width=10.5, titled=False))}
        return {name: page_svg(figure, name) for name, figure in figures.items() if figure is not None}
