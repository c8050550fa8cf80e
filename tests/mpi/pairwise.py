"""Rows, each with a value for every factor, in which all pairs of values of two factors meet: far fewer than all combinations."""
import itertools
import random


class Pairwise:
    def __init__(self, factors, forbidden=()):
        """factors: {name: [value, ...]}; forbidden: pairs ((name, value), (name, value)), names in the order of the factors, that no row may have."""
        self.factors = factors
        self.forbidden = set(forbidden)

    def pairs_of(self, row):
        return {((a, row[a]), (b, row[b])) for a, b in itertools.combinations(self.factors, 2)}

    def all_pairs(self):
        pairs = {((a, x), (b, y)) for a, b in itertools.combinations(self.factors, 2) for x in self.factors[a] for y in self.factors[b]}
        return pairs - self.forbidden

    def rows(self, seed):
        """Greedy: the best of some random rows each time."""
        draw = random.Random(seed)
        missing = self.all_pairs()
        rows = []
        while missing:
            wanted = dict(draw.choice(sorted(missing, key=str)))
            candidates = [{name: wanted.get(name, draw.choice(values)) for name, values in self.factors.items()} for _ in range(60)]
            candidates = [row for row in candidates if not self.pairs_of(row) & self.forbidden]
            if candidates:
                best = max(candidates, key=lambda row: len(self.pairs_of(row) & missing))
                missing -= self.pairs_of(best)
                rows.append(best)
        return rows
