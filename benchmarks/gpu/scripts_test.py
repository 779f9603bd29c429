"""Tests of run.py and kda_times.py that need no GPU: scripts_test.py [LIBRARY [DEVICE]]

With LIBRARY, a libdeltatape_kda_gpu.so, kda_times.py times tiny shapes with it.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import kda_times
import run

LIBRARY = sys.argv[1] if len(sys.argv) > 1 else None
DEVICE = sys.argv[2] if len(sys.argv) > 2 else "cuda"
FOLDER = pathlib.Path(__file__).resolve().parent


class Figures(unittest.TestCase):
    def setUp(self):
        self.s0 = kda_times.shapes(False)[0]

    def test_bytes_of_s0(self):
        tensor = 2 * 8192 * 64 * 128
        beta = 2 * 8192 * 64
        self.assertEqual(kda_times.bytes_of(self.s0, "forward"), 5 * tensor + beta)
        self.assertEqual(kda_times.bytes_of(self.s0, "backward"), 9 * tensor + 2 * beta)

    def test_flops_of_s0(self):
        self.assertAlmostEqual(kda_times.flops_of(self.s0, "forward") / 1e9, 97, delta=1)
        self.assertAlmostEqual(kda_times.flops_of(self.s0, "backward") / 1e9, 232, delta=1)

    def test_decode_reads_and_writes_every_state(self):
        largest = kda_times.decode_shapes(False)[0]
        self.assertEqual(kda_times.bytes_of(largest, "decode"), 256 * 64 * 128 * 128 * 4 * 2)

    def test_lengths_sum_up(self):
        lengths = kda_times.uneven_lengths(8192, 20)
        self.assertEqual((len(lengths), sum(lengths)), (20, 8192))
        self.assertTrue(all(length > 0 for length in lengths))

    def test_share_of_the_floor(self):
        ceilings = dict(copy_bytes_per_s=4.3e12, mma_sync_flops=470e12, wgmma_flops=None)
        row = kda_times.row_of(self.s0, "forward", 0.9, 1.8, ceilings, "v1")
        self.assertAlmostEqual(row["floor_ms"], 0.206, delta=0.002)
        self.assertAlmostEqual(row["ratio"], 2.0)


class Table(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.run = run.Run(pathlib.Path(self.folder.name), "1")

    def tearDown(self):
        self.folder.cleanup()

    def test_counts_failures(self):
        self.run.row("step", "a", "1", "ok")
        self.run.row("step", "b", "2", "FAILED")
        self.run.row("step", "c", "3", "missed")
        self.assertEqual(self.run.failures, 1)
        self.assertEqual(len(run.table_of(self.run).splitlines()), 5)

    def test_a_command_that_fails_or_hangs_is_told_apart(self):
        self.assertEqual(self.run.command("fine", "true", limit=10)[0], 0)
        self.assertEqual(self.run.command("wrong", "false", limit=10)[0], 1)
        self.assertEqual(self.run.command("missing", "no-such-program", limit=10)[0], 127)
        self.assertIsNone(self.run.command("slow", "sleep", "30", limit=5)[0])

    def test_newest_run_comes_first(self):
        page = pathlib.Path(self.folder.name) / "page.md"
        page.write_text(f"before\n{run.MARK}\nold\n")
        run.RESULTS, kept = page, run.RESULTS
        try:
            run.write_results("new")
        finally:
            run.RESULTS = kept
        self.assertEqual(page.read_text().split(), ["before", *run.MARK.split(), "new", "old"])

    def test_the_page_has_the_mark(self):
        self.assertIn(run.MARK, run.RESULTS.read_text())


@unittest.skipUnless(LIBRARY, "no library was named")
class Times(unittest.TestCase):
    def rows_of(self, *options):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "times.json"
            done = subprocess.run([sys.executable, FOLDER / "kda_times.py", "--library", LIBRARY, "--json", file, "--quick",
                                   "--seconds", "1", "--device", DEVICE, *options],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            rows = json.loads(file.read_text())["rows"]
        for row in rows:
            self.assertGreater(row["ms"], 0)
            self.assertTrue(row["plan"])
        return rows

    def test_tiny_shapes(self):
        rows = self.rows_of()
        self.assertEqual([row["pass"] for row in rows], ["forward", "backward", "both"] * 2 + ["decode"])

    def test_versions(self):
        rows = self.rows_of("--versions")
        self.assertEqual([row["pass"] for row in rows], ["forward v1", "forward v2", "backward v1", "backward v2"] * 2)

    def test_a_failure_is_no_refusal(self):
        class Failing:
            plan = ""

            def __init__(self, library, problem):
                pass

            def run(self, name):
                raise RuntimeError(f"run: pass '{name}' does not run here: V is 16" if name.endswith("v2") else "a fault")

            def close(self):
                pass

        kept, kda_times.Ours = kda_times.Ours, Failing
        try:
            with self.assertRaisesRegex(RuntimeError, "a fault"):
                kda_times.time_versions(None, dict(name="tiny"), None, 0)
        finally:
            kda_times.Ours = kept

    def test_errors_come_back(self):
        library = kda_times.Library(LIBRARY)
        with self.assertRaisesRegex(RuntimeError, "B"):
            kda_times.Ours(library, {"T": 4})
        problem = dict(kda_times.shapes(True)[0], device=DEVICE)
        ours = kda_times.Ours(library, problem)
        with self.assertRaisesRegex(RuntimeError, "pass is 'sideways', expected forward"):
            ours.run("sideways")
        with self.assertRaisesRegex(RuntimeError, "no tensor 'dq'"):
            ours.pointer("dq")
        ours.run("both")
        self.assertEqual(ours.pointer("dq")[1], 2 * 130 * 64)
        ours.close()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
