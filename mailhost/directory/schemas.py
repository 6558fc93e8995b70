"""
The layouts of directories that are known by name.

:Room: ``directory``
:IIS: LDP-03.
:RFC: 2798 (inetOrgPerson), 4519 (groupOfNames).
:Called by: `mailhost.directory.resolver`.
"""

from __future__ import annotations

from mailhost.model.directory import Schema

#: ADS_UF_ACCOUNTDISABLE of userAccountControl.
_ACCOUNT_DISABLED = 2

ACTIVE_DIRECTORY = Schema(
    "active_directory",
    searched="proxyAddresses=smtp: mail",
    primary="mail",
    contacts="contact",
    groups="group msExchDynamicDistributionList",
    target="targetAddress",
    forward_to_entry="altRecipient",
    keep_copy="deliverAndRedirect",
    home="msExchHomeServerName homeMTA",
    member_entries="member",
    member_filter="msExchDynamicDLFilter",
    member_base="msExchDynamicDLBaseDN",
    owner="managedBy",
    report_to_owner="reportToOwner",
    report_to_originator="reportToOriginator",
    disabled="userAccountControl",
    disabled_bit=_ACCOUNT_DISABLED,
    login="sAMAccountName userPrincipalName mail",
    delegates="publicDelegates",
)

#: Site Server's Membership Directory, which MCIS mail used.
SITE_SERVER = Schema(
    "site_server",
    searched="mail mailAlternateAddress",
    primary="mail",
    groups="groupOfNames groupOfUniqueNames mailGroup",
    forward_to_address="forwardingAddress",
    keep_copy="keepLocalCopy",
    host="mailHost",
    member_entries="member uniqueMember",
    member_addresses="rfc822MailMember",
    owner="owner",
    disabled="accountStatus",
    disabled_words="disabled inactive",
    login="uid cn mail",
)

#: The directory of Exchange 5.5, as its LDAP service names things.
EXCHANGE = Schema(
    "exchange",
    searched="rfc822Mailbox mail otherMailbox=smtp$",
    primary="rfc822Mailbox mail",
    contacts="Remote-Address customRecipient",
    groups="groupOfNames distributionList",
    target="Target-Address",
    forward_to_entry="Alt-Recipient",
    keep_copy="Deliver-And-Redirect",
    home="Home-MTA",
    member_entries="member",
    owner="Owner",
    report_to_owner="Report-To-Owner",
    report_to_originator="Report-To-Originator",
    login="uid mail",
    delegates="Public-Delegates",
)

#: OpenLDAP and its kin, with inetLocalMailRecipient where it is used.
INETORGPERSON = Schema(
    "inetorgperson",
    searched="mail mailAlternateAddress mailLocalAddress",
    primary="mail mailLocalAddress",
    groups="groupOfNames groupOfUniqueNames nisMailAlias groupOfURLs mailGroup",
    forward_to_address="mailForwardingAddress",
    keep_copy="mailKeepCopy",
    host="mailHost",
    routing_address="mailRoutingAddress",
    member_entries="member uniqueMember",
    member_addresses="rfc822MailMember",
    member_url="memberURL",
    owner="owner",
    disabled="accountStatus",
    disabled_words="disabled inactive",
    login="uid mail",
)

SCHEMAS = {
    schema.name: schema for schema in (ACTIVE_DIRECTORY, SITE_SERVER, EXCHANGE, INETORGPERSON)
}
