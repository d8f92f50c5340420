"""What is in the picture now, and how many of each?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from PyQt5.QtCore import Qt
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from app.detections import Result
from app.gui import texts
from app.overlay import colour_of, label_of, printable


class CountsTable(QTableWidget):
    """Class, count, best score."""

    def __init__(self) -> None:
        super().__init__(0, 3)
        self.setAccessibleName(texts.TABLE_NAME)
        self.setHorizontalHeaderLabels(list(texts.TABLE_HEAD))
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setShowGrid(False)
        self.setFixedWidth(190)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None and columns is not None
        rows.hide()
        rows.setDefaultSectionSize(22)
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            columns.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self._shown: list[tuple[int, str, int, float]] = []

    def show_counts(self, counts: list[tuple[int, str, int, float]]) -> None:
        """Rows of (class_id, label, count, best score)."""
        if counts == self._shown:
            return
        self._shown = counts
        self.setRowCount(len(counts))
        for row, (class_id, label, count, best) in enumerate(counts):
            for column, text in enumerate((label, str(count), f"{best:.2f}")):
                item = self.item(row, column)
                if item is None:
                    item = QTableWidgetItem()
                    self.setItem(row, column, item)
                if item.text() != text:
                    item.setText(text)
                if column == 0:
                    item.setData(Qt.ItemDataRole.DecorationRole, QColor(*colour_of(class_id)))


def counts_of(
    result: Result, labels: Sequence[str], hidden: frozenset[str]
) -> list[tuple[int, str, int, float]]:
    """(class_id, label, count, best score) of each class seen, the commonest first."""
    found = result.detections.without(labels, hidden)
    class_ids = found.class_ids.tolist()
    best: dict[int, float] = {}
    for class_id, score in zip(class_ids, found.scores.tolist(), strict=True):
        best.setdefault(class_id, round(score, 2))  # scores are falling
    return [
        (class_id, printable(label_of(labels, class_id)), count, best[class_id])
        for class_id, count in sorted(Counter(class_ids).items(), key=lambda kv: (-kv[1], kv[0]))
    ]
