"""What a job gives back: one object, which a person reads as a summary and a program as one line of JSON.

The names of the fields are those of the JSON object, and stable: docs/jobs.md has them.
"""

from pipelines._report.result.base import DATA_FAILED as DATA_FAILED
from pipelines._report.result.base import DONE as DONE
from pipelines._report.result.base import WRONG_USAGE as WRONG_USAGE
from pipelines._report.result.base import DescribedResult as DescribedResult
from pipelines._report.result.base import JobStatus as JobStatus
from pipelines._report.result.base import Result as Result
from pipelines._report.result.base import RunFailedError as RunFailedError
from pipelines._report.result.base import UsageError as UsageError
from pipelines._report.result.base import failure as failure
from pipelines._report.result.dataset import DatasetResult as DatasetResult
from pipelines._report.result.dataset import LettersResult as LettersResult
from pipelines._report.result.dataset import SplitResult as SplitResult
from pipelines._report.result.dataset import WindowResult as WindowResult
from pipelines._report.result.features import ExportResult as ExportResult
from pipelines._report.result.features import FitResult as FitResult
from pipelines._report.result.features import RelaxResult as RelaxResult
from pipelines._report.result.folder import HistoryResult as HistoryResult
from pipelines._report.result.folder import ShowResult as ShowResult
from pipelines._report.result.folder import SpansResult as SpansResult
from pipelines._report.result.folder import StatusResult as StatusResult
from pipelines._report.result.folder import TraceResult as TraceResult
from pipelines._report.result.folder import VerifyResult as VerifyResult
from pipelines._report.result.statistics import CheckResult as CheckResult
from pipelines._report.result.statistics import CompareResult as CompareResult
from pipelines._report.result.statistics import ProfileResult as ProfileResult
from pipelines._report.result.statistics import of_differences as of_differences
