"""A browser for $BROWSER that logs in at the development identity provider: PERSON ADDRESS.

It follows redirects, keeps cookies, and presses the button of that person, as somebody in a hurry would.
"""

from __future__ import annotations

import sys

import httpx2


def main(person: str, address: str) -> None:
    with httpx2.Client(follow_redirects=True, timeout=20) as browser:
        page = browser.get(address)
        assert f'value="{person}"' in page.text, page.text
        done = browser.post(str(page.url), data={"sub": person})
        assert done.status_code == 200, done.text


if __name__ == "__main__":
    main(*sys.argv[1:])
