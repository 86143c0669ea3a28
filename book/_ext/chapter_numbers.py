"""Number a chapter by its file: `05_vae.ipynb` is chapter 5, with figures and equations 5.1, 5.2 ..."""

import re

from docutils import nodes
from sphinx.environment.collectors.toctree import TocTreeCollector


class ChapterNumbers(TocTreeCollector):
    """Counts sections as Sphinx does, then puts the file's number in the place of the chapter's."""

    def assign_section_numbers(self, env):
        super().assign_section_numbers(env)
        chapters = {doc: int(found[1]) for doc in env.tocs if (found := re.search(r"(?:^|/)(\d+)_[^/]*$", doc))}
        for doc, chapter in chapters.items():
            renumber = lambda number: number and (chapter, *number[1:])
            sections = env.toc_secnumbers.get(doc, {})
            sections.update({anchor: renumber(number) for anchor, number in sections.items()})
            for node in [env.titles[doc], *env.tocs[doc].findall(nodes.reference)]:
                if "secnumber" in node:
                    node["secnumber"] = renumber(node["secnumber"])
        return list(chapters)


def setup(app):
    app.add_env_collector(ChapterNumbers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
