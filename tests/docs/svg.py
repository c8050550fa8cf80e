"""A drawing of boxes, arrows and words as SVG text: the same input gives the same bytes, with every release of Python."""
import html

FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"'


class Svg:
    def __init__(self, width, height):
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
                      '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
                      '<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>', '<rect width="100%" height="100%" fill="white"/>']

    def box(self, x, y, width, height, fill, dashed=False):
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" stroke="#555"{dash}/>')

    def text(self, x, y, words, size=12, anchor="start", weight="normal", colour="#222"):
        self.parts.append(f'<text x="{x:g}" y="{y:g}" {FONT} font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">'
                          f"{html.escape(words)}</text>")

    def arrow(self, x1, y1, x2, y2):
        self.parts.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#555" marker-end="url(#head)"/>')

    def __str__(self):
        return "\n".join(self.parts + ["</svg>"]) + "\n"
