"""Removal of finished studies by age; the record of their jobs stays, so that none is segmented twice."""

from __future__ import annotations

import shutil
import time

from anymri.pacs import places
from anymri.pacs.configuration import NodeConfiguration
from anymri.pacs.database import Database
from anymri.pacs.intake import Intake


def clean_up(configuration: NodeConfiguration, database: Database, intake: Intake) -> bool:
    """Remove objects and results of studies that changed long ago and have nothing to do; return false.

    A study that was refused by its input is removed too. Studies with jobs or deliveries that wait stay.
    """
    oldest = time.time() - configuration.keep_days * 24 * 3600
    old = database.rows(
        "SELECT uid FROM studies WHERE changed < ? AND due = 0 AND NOT EXISTS (SELECT 1 FROM jobs "
        "WHERE study = studies.uid AND (state IN ('ready', 'segmenting', 'segmented') OR ended > ?))",
        oldest,
        oldest,
    )
    for study in (row["uid"] for row in old):
        made = database.rows("SELECT content, weights FROM jobs WHERE study = ?", study)
        with intake.writing:
            with database.transaction() as change:
                if not change.execute("DELETE FROM studies WHERE uid = ? AND due = 0", (study,)).rowcount:
                    continue
                change.execute("DELETE FROM objects WHERE study = ?", (study,))
            shutil.rmtree(places.study_folder(configuration.folder, study), ignore_errors=True)
        for job in made:
            folder = places.result_folder(configuration.folder, study, job["content"], job["weights"])
            shutil.rmtree(folder, ignore_errors=True)
        intake.recount()
    return False
