"""The report as a PDF: report.html as a browser prints it, or its key page alone where there is no browser."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from spectac.app.comparison import Comparison

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 120.0


def write_report_pdf(path: Path, comparison: Comparison, report: Path) -> str | None:
    """Write the PDF of a report's folder; None, or why it is the key page alone."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    reason = "no Chromium is installed"
    if browser is not None:
        reason = _printed(browser, report / "report.html", path)
        if not reason:
            return None
    from spectac.app.report.key_page import write_key_page

    write_key_page(path, comparison)
    return f"the PDF holds the report's key page alone: {reason}"


def _printed(browser: str, page: Path, path: Path) -> str:
    """Print a page into a file; "" or why there is none."""
    try:
        with tempfile.TemporaryDirectory(prefix="spectac-print-") as profile:
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
                "--virtual-time-budget=10000", "--no-pdf-header-footer", f"--print-to-pdf={path}",
                page.resolve().as_uri(),
            ]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"Chromium did not finish within {SECONDS:g} s"
    except (subprocess.CalledProcessError, OSError) as error:
        return f"Chromium failed: {type(error).__name__}"
    whole = path.is_file() and path.stat().st_size > 1000
    return "" if whole else "Chromium wrote nothing"
