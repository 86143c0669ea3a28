"""Where the pages are published follows from the repository: GitHub Pages serves OWNER/NAME at OWNER.github.io/NAME/.

Canonical links, the previews that other sites show and the page for a wrong address need it. A site with a name of its own
sets `html.baseurl` in _config.yml.
"""

from urllib.parse import urlparse


def pages_address(repository):
    owner, name = urlparse(repository).path.strip("/").split("/")
    site = f"{owner}.github.io".lower()
    return f"https://{site}/" if name.lower() == site else f"https://{site}/{name}/"


def set_address(app, config):
    config.html_baseurl = config.html_baseurl or pages_address(config.html_theme_options["repository_url"])
    config.ogp_site_url = config.html_baseurl
    config.notfound_urls_prefix = urlparse(config.html_baseurl).path


def adapt(app, pagename, templatename, context, doctree):
    if pagename == app.config.root_doc:
        app.preview = context["metatags"]
    if pagename == app.config.notfound_pagename:
        context["pageurl"] = None    # it answers for many addresses, and none is its own


def front_door(app):
    """The address that people pass on is that of the whole site, which only leads to the first page: it has the same preview."""
    if hasattr(app, "preview"):
        yield "index", {"preview": app.preview}, "front_door.html"


def setup(app):
    app.connect("config-inited", set_address)
    app.connect("html-page-context", adapt, priority=900)    # after sphinxext.opengraph
    app.connect("html-collect-pages", front_door)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
