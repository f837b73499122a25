"""The keys that a dump makes: which of them can be made otherwise."""

from __future__ import annotations

import pytest

from gitlab_mm_backup.postgresql.dump_contents import keys_in

SCRIPT = """\
ALTER TABLE ONLY public.posts
    ADD CONSTRAINT posts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT "users_Email_key" UNIQUE (email, "limit");

{}
"""
NOT_PLAIN = (
    "ALTER TABLE ONLY public.odd\n    ADD CONSTRAINT odd_key UNIQUE (a) DEFERRABLE;",
    "ALTER TABLE ONLY public.odd\n    ADD CONSTRAINT odd_key UNIQUE (a) INCLUDE (b);",
    "ALTER TABLE ONLY public.odd\n    ADD CONSTRAINT odd_key UNIQUE NULLS NOT DISTINCT (a);",
    "ALTER TABLE ONLY public.odd\n    ADD CONSTRAINT odd_key PRIMARY KEY (a) WITH (fillfactor='70');",
    "ALTER TABLE ONLY public.odd\n    ADD CONSTRAINT odd_key FOREIGN KEY (a) REFERENCES public.b(a);",
    "ALTER TABLE ONLY public.odd\n    ADD CONSTRAINT odd_key EXCLUDE USING gist (a WITH =);",
)
PLAIN = "ALTER TABLE ONLY public.odd\n    ADD CONSTRAINT odd_key PRIMARY KEY (a);"
SAID_MORE = (
    "ALTER TABLE public.odd CLUSTER ON odd_key;",
    "ALTER TABLE ONLY public.odd REPLICA IDENTITY USING INDEX odd_key;",
    "ALTER INDEX public.whole_key ATTACH PARTITION public.odd_key;",
)


def test_plain_keys_are_found_in_a_script() -> None:
    found = keys_in(SCRIPT.format(PLAIN))
    assert list(found) == ["public.posts_pkey", 'public."users_Email_key"', "public.odd_key"]
    key = found['public."users_Email_key"']
    assert key.index == (
        'CREATE UNIQUE INDEX "users_Email_key" ON public.users USING btree (email, "limit")'
    )
    assert key.constraint == (
        'ALTER TABLE ONLY public.users ADD CONSTRAINT "users_Email_key" UNIQUE '
        'USING INDEX "users_Email_key"'
    )


@pytest.mark.parametrize("said", [*NOT_PLAIN, *(f"{PLAIN}\n\n{more}" for more in SAID_MORE)])
def test_a_key_that_is_not_plain_is_left_to_pg_restore(said: str) -> None:
    assert list(keys_in(SCRIPT.format(said))) == ["public.posts_pkey", 'public."users_Email_key"']
