"""Simulated transactions with three kinds of fraud: the default source, and examples for whoever needs some.

Customers and terminals lie on a square; a customer pays at the terminals in reach, with a mean amount and a mean number
of transactions a day of their own. Fraud: (1) amounts above 220; (2) everything at a compromised terminal for 28 days;
(3) a third of a compromised customer's transactions for 14 days, at five times the amount.
Written from the description of the transaction data simulator in chapter 3 of "Reproducible Machine Learning for Credit
Card Fraud Detection - Practical Handbook" (Le Borgne, Siblini, Lebichot, Bontempi, 2022).

Unlike there, a day is a function of (seed, date) alone, whichever days are made before it.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from include.command import BadInput
from include.fraud.schema import LABELS, TRANSACTIONS

SIDE = 100.0
PUBLISHED_CUSTOMERS, PUBLISHED_TERMINALS, PUBLISHED_RADIUS = 5_000, 10_000, 5.0
MEAN_AMOUNT, MAX_TRANSACTIONS_A_DAY = (5.0, 100.0), 4.0
NOON_S, SPREAD_S, DAY_S = 43_200, 20_000, 86_400

LARGE_AMOUNT = 220.0
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CUSTOMERS_A_DAY, CUSTOMER_DAYS, CUSTOMER_SHARE, CUSTOMER_FACTOR = 3, 14, 1 / 3, 5

IDS_A_DAY = 10_000_000
"""Room for each day's ids; day and place in the day can be read off an id."""

_PLACES, _TERMINALS_HIT, _CUSTOMERS_HIT, _TRANSACTIONS = range(4)  # streams of random numbers
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Simulator:
    """A source of transactions without beginning or end.

    With fewer customers or terminals than published, the reach grows and the compromised become rarer, so that a
    customer still has some 80 terminals in reach and the share of fraud stays what it is.
    """

    def __init__(self, seed: int, customers: int = PUBLISHED_CUSTOMERS, terminals: int = PUBLISHED_TERMINALS) -> None:
        if seed < 0 or customers < 1 or terminals < 1:
            raise BadInput(
                f"simulator with seed {seed}, {customers} customers, {terminals} terminals: the seed must be at "
                f"least 0 (set MLOPS_SIMULATOR_SEED), the others at least 1"
            )
        self.seed, self.customers, self.terminals = seed, customers, terminals

    def has(self, day: date) -> bool:
        """Whether there are transactions of that day: always."""
        return True

    def transactions(self, day: date) -> pl.DataFrame:
        """The day's transactions, columns TRANSACTIONS."""
        return self.day(day).select(*TRANSACTIONS)

    def labels(self, day: date) -> pl.DataFrame:
        """The labels of the day's transactions, columns LABELS."""
        return self.day(day).select(*LABELS)

    def day(self, day: date) -> pl.DataFrame:
        """The day's transactions in order of time, with tx_fraud and tx_fraud_scenario (0 genuine, or 1 to 3)."""
        random = self._random(_TRANSACTIONS, day)
        customer, second, amount, terminal = self._genuine(random)
        scenario = np.where(amount > LARGE_AMOUNT, 1, 0)
        scenario[np.isin(terminal, self._compromised_terminals(day))] = 2
        abused = np.isin(customer, self._compromised_customers(day)) & (random.random(len(customer)) < CUSTOMER_SHARE)
        scenario[abused] = 3
        amount = np.rint(np.where(abused, amount * CUSTOMER_FACTOR, amount) * 100) / 100
        midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        first_id = midnight // DAY_S * IDS_A_DAY
        return pl.DataFrame(
            {
                "transaction_id": np.arange(first_id, first_id + len(second)),
                "tx_datetime": pl.Series((midnight + second) * 1000).cast(pl.Datetime("ms", "UTC")),
                "customer_id": customer,
                "terminal_id": terminal,
                "tx_amount": amount,
                "tx_fraud": (scenario > 0).astype(np.int8),
                "tx_fraud_scenario": scenario.astype(np.int8),
            }
        )

    def _genuine(self, random: np.random.Generator) -> tuple[Ints, Ints, Floats, Ints]:
        """Customer, second of the day, amount in whole cents, terminal of each transaction, in order of the second."""
        mean_amount, mean_count, reach_start, reach_size, reach = self._world
        customer = np.repeat(np.arange(self.customers), random.poisson(mean_count))
        second = np.floor(random.normal(NOON_S, SPREAD_S, len(customer))).astype(np.int64)
        mean = mean_amount[customer]
        amount = random.normal(mean, mean / 2)
        amount = np.where(amount < 0, random.uniform(0, 2 * mean), amount)
        size = reach_size[customer]
        choice = np.floor(random.random(len(customer)) * size).astype(np.int64)
        within = np.flatnonzero((second >= 0) & (second < DAY_S) & (size > 0))
        kept = within[np.argsort(second[within], kind="stable")]
        terminal = reach[reach_start[customer[kept]] + choice[kept]]
        return customer[kept], second[kept], np.rint(amount[kept] * 100) / 100, terminal

    @cached_property
    def _world(self) -> tuple[Floats, Floats, Ints, Ints, Ints]:
        """Each customer's mean amount, mean transactions a day, and where in the last array their terminals are."""
        random = np.random.default_rng([self.seed, _PLACES])
        customers, terminals = (
            random.uniform(0, SIDE, (self.customers, 2)),
            random.uniform(0, SIDE, (self.terminals, 2)),
        )
        mean_amount = random.uniform(*MEAN_AMOUNT, self.customers)
        mean_count = random.uniform(0, MAX_TRANSACTIONS_A_DAY, self.customers)
        radius = PUBLISHED_RADIUS * max(1.0, (PUBLISHED_TERMINALS / self.terminals) ** 0.5)
        near = cKDTree(terminals).query_ball_point(customers, radius, return_sorted=True)
        size = np.array([len(some) for some in near], dtype=np.int64)
        reach = np.concatenate([np.asarray(some, dtype=np.int64) for some in near])
        return mean_amount, mean_count, np.cumsum(size) - size, size, reach

    def _compromised_terminals(self, day: date) -> Ints:
        expected = TERMINALS_A_DAY * self.terminals / PUBLISHED_TERMINALS
        return self._drawn(_TERMINALS_HIT, day, TERMINAL_DAYS, self.terminals, expected)

    def _compromised_customers(self, day: date) -> Ints:
        expected = CUSTOMERS_A_DAY * self.customers / PUBLISHED_CUSTOMERS
        return self._drawn(_CUSTOMERS_HIT, day, CUSTOMER_DAYS, self.customers, expected)

    def _drawn(self, stream: int, day: date, days: int, among: int, expected: float) -> Ints:
        """Everyone drawn on `day` or the days - 1 before it; `expected` draws a day, a fraction by lot."""
        drawn = []
        for back in range(days):
            random = self._random(stream, day - timedelta(days=back))
            count = int(expected + random.random())
            drawn.append(random.choice(among, size=min(count, among), replace=False, shuffle=False))
        return np.unique(np.concatenate(drawn)).astype(np.int64)

    def _random(self, stream: int, day: date) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, day.toordinal()])
