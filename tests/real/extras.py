"""What people and programs have in a Mattermost besides messages, made and read through the API of a real server."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from tests.lab.sandbox import Lab
from tests.lab.signed_in_user import ApiError, Session

# A picture that decoders of all versions take.
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SWITCHED_ON = {
    "ServiceSettings": {
        "EnableBotAccountCreation": True,
        "EnableCustomEmoji": True,
        "EnableUserAccessTokens": True,
    },
    "FileSettings": {"EnablePublicLink": True},
}


@dataclass
class Extras:
    """Ids of what was made, and the bot's token."""

    team: str
    channel: str
    bot: str
    token: str
    hook: str  # an incoming webhook
    emoji: str
    direct: str  # a channel of two
    link: str  # public address of an upload
    linked: str  # that upload

    @classmethod
    def made(cls, root: Session, alice: Session, team: str, channel: str, post: str) -> Extras:
        """Make one of each, in a channel with a message."""
        bot = created(root, "/bots", username="builder", display_name="Builds")["user_id"]
        created(root, f"/teams/{team}/members", team_id=team, user_id=bot)
        created(root, f"/channels/{channel}/members", user_id=bot)
        token = created(root, f"/users/{bot}/tokens", description="of the pipeline")["token"]
        hook = created(root, "/hooks/incoming", channel_id=channel, display_name="of a pipeline")
        outgoing = {"trigger_words": ["deploy"], "callback_urls": ["http://127.0.0.1:9/"]}
        created(
            root, "/hooks/outgoing", team_id=team, channel_id=channel, display_name="o", **outgoing
        )
        command = {"trigger": "lunch", "url": "http://127.0.0.1:9/", "method": "P"}
        created(root, "/commands", team_id=team, **command)
        named = json.dumps({"name": "dot", "creator_id": root.user_id})
        file = {"name": "dot.png", "content": DOT, "emoji": named}
        emoji = json.loads(root.call("POST", "/emoji", file=file))["id"]
        created(alice, "/reactions", user_id=alice.user_id, post_id=post, emoji_name="dot")
        saved = {"user_id": alice.user_id, "category": "flagged_post", "name": post}
        alice.call("PUT", f"/users/{alice.user_id}/preferences", json=[{**saved, "value": "true"}])
        pair = [alice.user_id, root.user_id]
        direct = json.loads(alice.call("POST", "/channels/direct", json=pair))["id"]
        created(alice, "/posts", channel_id=direct, message="between the two of us")
        if has_drafts(alice):
            draft = {"user_id": alice.user_id, "channel_id": channel, "root_id": post}
            created(alice, "/drafts", message="not sent yet", **draft)
        linked = alice.upload("public.txt", b"for everybody\n", "coffee")
        alice.post("a file for everybody", "coffee", [linked])
        link = str(alice.get(f"/files/{linked}/link")["link"])
        return cls(team, channel, bot, token, hook["id"], emoji, direct, link, linked)

    def seen(self, root: Session, alice: Session) -> dict[str, Any]:
        """Everything, as the API shows it to those who made it."""
        answer = {
            "bot": root.get(f"/bots/{self.bot}"),
            "incoming": root.get(f"/hooks/incoming?team_id={self.team}"),
            "outgoing": root.get(f"/hooks/outgoing?team_id={self.team}"),
            "commands": root.get(f"/commands?team_id={self.team}&custom_only=true"),
            "emoji": root.get("/emoji"),
            "picture": hashlib.sha256(root.call("GET", f"/emoji/{self.emoji}/image")).hexdigest(),
            "saved": alice.get(f"/users/{alice.user_id}/posts/flagged")["order"],
            "tokens": root.get(f"/users/{self.bot}/tokens"),
            "direct": alice.get(f"/channels/{self.direct}/posts")["posts"],
        }
        if has_drafts(alice):
            answer["drafts"] = alice.get(f"/users/{alice.user_id}/teams/{self.team}/drafts")
        return answer

    def bot_says(self, text: str, root: Session) -> str:
        """Post as the bot by its access token; gives the text as it is read."""
        bot = replace(root, token=self.token, user_id=self.bot)
        identifier = created(bot, "/posts", channel_id=self.channel, message=text)["id"]
        return root.read_post(identifier)

    def call_hook(self, lab: Lab, site: str, text: str) -> None:
        """Post by the incoming webhook, as a pipeline does."""
        words = ("--json", json.dumps({"text": text}), f"{site}/hooks/{self.hook}")
        lab.run("curl", "--silent", "--show-error", "--fail", *words)

    def publicly(self, lab: Lab) -> str:
        """What anybody gets at the public address."""
        return lab.run("curl", "--silent", "--show-error", "--fail", self.link).stdout


def created(session: Session, path: str, **document: Any) -> dict[str, Any]:
    """POST a document; gives the thing that was made."""
    return dict(json.loads(session.call("POST", path, json=document)))


def has_drafts(session: Session) -> bool:
    """Whether drafts are kept by the server, which they are since 7.7."""
    try:
        session.get(
            f"/users/{session.user_id}/teams/{session.get('/users/me/teams')[0]['id']}/drafts"
        )
    except ApiError as error:
        if error.status not in (404, 501):
            raise
        return False
    return True


def found(session: Session, team: str, words: str) -> list[str]:
    """Texts of the messages that the server's search finds in a team."""
    asked = {"terms": words, "is_or_search": False}
    answer = session.call("POST", f"/teams/{team}/posts/search", json=asked)
    return sorted(post["message"] for post in (json.loads(answer)["posts"] or {}).values())
